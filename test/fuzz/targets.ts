// Owns: the table of fuzz targets. A parser joins with one line here and one file under targets/.

import type { Target } from "./target.ts";
import { http1Answer } from "./targets/http1-answer.ts";
import { http1Body } from "./targets/http1-body.ts";
import { http1Forward } from "./targets/http1-forward.ts";
import { http1Head } from "./targets/http1-head.ts";
import { http1Stream } from "./targets/http1-stream.ts";
import { http1Trailers } from "./targets/http1-trailers.ts";

export const targets: readonly Target[] = [http1Head, http1Answer, http1Body, http1Stream, http1Trailers, http1Forward];
