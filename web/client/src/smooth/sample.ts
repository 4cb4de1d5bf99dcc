/** A position as it arrives. */
export interface Sampled {
  readonly x: number;
  readonly y: number;
  /** The sender's clock at the sample, in milliseconds modulo 65,536. */
  readonly time_ms: number;
}
