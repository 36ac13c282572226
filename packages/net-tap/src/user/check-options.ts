import { Destinations } from "./destinations.ts";
import { parseForward } from "./forwards.ts";
import { resolveNetwork, type UserNetOptions } from "./options.ts";

/** Throws `NB_CONFIG` for all that can be wrong with options before the host is asked for anything. */
export function checkUserOptions(options: UserNetOptions): void {
  const network = resolveNetwork(options);
  new Destinations(network, options, () => false);
  for (const [index, forward] of (options.forwards ?? []).entries())
    parseForward(forward, `forwards[${index}]`, network);
}
