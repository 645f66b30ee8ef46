// Owns: reading and writing the payload of SETTINGS (RFC 9113 section 6.5, RFC 8441 section 3). Pure.

import { flowControlError, protocolError, refuse } from "./errors.ts";
import {
  defaultMaxFrameSize,
  defaultWindow,
  largestWindow,
  readUint32,
  settingEnableConnect,
  settingEnablePush,
  settingHeaderTableSize,
  settingInitialWindowSize,
  settingMaxConcurrentStreams,
  settingMaxFrameSize,
  writeUint32,
} from "./frame.ts";

/** What a peer has told; RFC 9113's defaults at first. */
export interface PeerSettings {
  headerTableSize: number;
  /** The smallest that the last frame named on the way there: an encoder has to say that one too (RFC 7541 4.2). */
  lowestHeaderTableSize: number;
  maxStreams: number;
  initialWindow: number;
  /** Extended CONNECT is understood. */
  connect: boolean;
}

export function defaultSettings(): PeerSettings {
  return {
    headerTableSize: 4_096,
    lowestHeaderTableSize: 4_096,
    maxStreams: Number.POSITIVE_INFINITY,
    initialWindow: defaultWindow,
    connect: false,
  };
}

/** Takes a payload; answers 0, or the negative of a connection error. `fromServer`: what only clients may say is refused. */
export function readSettings(buf: Uint8Array, from: number, to: number, fromServer: boolean, settings: PeerSettings): number {
  settings.lowestHeaderTableSize = Number.POSITIVE_INFINITY;
  for (let at = from; at < to; at += 6) {
    const value = readUint32(buf, at + 2);
    switch (((buf[at] as number) << 8) | (buf[at + 1] as number)) {
      case settingHeaderTableSize:
        settings.headerTableSize = value;
        if (value < settings.lowestHeaderTableSize) settings.lowestHeaderTableSize = value;
        break;
      case settingEnablePush:
        if (value > 1 || (fromServer && value !== 0)) return refuse(protocolError);
        break;
      case settingMaxConcurrentStreams:
        settings.maxStreams = value;
        break;
      case settingInitialWindowSize:
        if (value > largestWindow) return refuse(flowControlError);
        settings.initialWindow = value;
        break;
      case settingMaxFrameSize:
        // Checked, not used: our frames are never larger than what everybody takes.
        if (value < defaultMaxFrameSize || value > 0xff_ffff) return refuse(protocolError);
        break;
      case settingEnableConnect:
        // RFC 8441 3: once said, it may not be taken back.
        if (value > 1 || (value === 0 && settings.connect)) return refuse(protocolError);
        settings.connect = value === 1;
        break;
      default:
    }
  }
  return 0;
}

export function writeSetting(out: Uint8Array, at: number, setting: number, value: number): number {
  out[at] = setting >>> 8;
  out[at + 1] = setting;
  writeUint32(out, at + 2, value);
  return at + 6;
}
