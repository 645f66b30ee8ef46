// Owns: catching what a part of the page throws (a bug, or a piece of script that the server no longer has after an upgrade), so that the rest stays usable.

import { Component, type ReactNode } from "react";

interface Props {
  readonly what: string;
  readonly children: ReactNode;
}

// React offers no function for this: the one place with a component class.
export class Guard extends Component<Props, { message: string | null }> {
  override state = { message: null };

  static getDerivedStateFromError(error: unknown): { message: string } {
    return { message: error instanceof Error ? error.message : String(error) };
  }

  override render(): ReactNode {
    if (this.state.message === null) return this.props.children;
    return (
      <div className="empty" role="alert">
        <h2>{this.props.what} could not be shown</h2>
        <p>{this.state.message}</p>
        <button type="button" onClick={() => window.location.reload()}>
          Reload the page
        </button>
      </div>
    );
  }
}
