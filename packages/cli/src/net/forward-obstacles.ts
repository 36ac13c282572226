import { runHostCommand } from "../guest/host-command.ts";

/** A base chain, as far as it is looked at (libnftables-json(5)). */
interface Chain {
  readonly family: string;
  readonly table: string;
  readonly name: string;
  readonly hook?: string;
  readonly policy?: string;
}

/**
 * Says which chains of other firewalls drop what they do not know on its way through this host: a chain that accepts, as
 * ours does, does not speak for the others. Nothing where `nft` cannot tell.
 */
export async function forwardObstacles(name: string): Promise<readonly string[]> {
  const listed = await runHostCommand("nft", ["--json", "list", "chains"]).catch(() => "{}");
  const { nftables = [] } = JSON.parse(listed) as { nftables?: readonly { readonly chain?: Chain }[] };
  return nftables.flatMap(({ chain }) => {
    const isInTheWay =
      chain !== undefined &&
      (chain.family === "ip" || chain.family === "inet") &&
      chain.hook === "forward" &&
      chain.policy === "drop";
    if (!isInTheWay) return [];
    const where = `chain ${chain.name} of table ${chain.family} ${chain.table}`;
    return [
      `${name} reaches the outside only as far as ${where} lets it: accept what comes from ${name}, and answers to it, there`,
    ];
  });
}
