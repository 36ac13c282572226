/** Times that an address may be heard away from its home before that is a loop, and how soon. */
const MOST_MOVES = 64;
const WITHIN_MS = 1000;

/** Where one address is heard. `Port` is compared only. */
export interface Sighting<Port> {
  /** Where it was heard last. */
  port: Port;
  /** Where it was heard before it began to move. */
  home: Port;
  moves: number;
  movedMs: number;
}

export const sighted = <Port>(port: Port): Sighting<Port> => ({ port, home: port, moves: 0, movedMs: 0 });

/**
 * Notes that an address was heard at `port`. True where it is there so often, and elsewhere, that the same frames must be
 * going round: two ports of one switch lead to each other. Without a spanning tree (IEEE 802.1D §8) nothing else tells.
 */
export function isLooping<Port>(known: Sighting<Port>, port: Port, nowMs: number): boolean {
  if (nowMs - known.movedMs > WITHIN_MS) {
    known.home = known.port;
    known.moves = 0;
  }
  if (port === known.port) return false;
  known.port = port;
  known.movedMs = nowMs;
  if (port !== known.home) known.moves += 1;
  return port !== known.home && known.moves > MOST_MOVES;
}
