import * as v from "valibot";
import { runHostCommand } from "../guest/host-command.ts";

const Links = v.array(
  v.object({
    ifname: v.string(),
    addr_info: v.array(v.object({ local: v.string(), prefixlen: v.number() })),
  }),
);

/** The IPv4 addresses of all interfaces, up or down (ip-address(8)). Throws `NB_HOST`. */
export async function addressesOfHost(): Promise<readonly { address: string; of: string }[]> {
  const links = v.parse(Links, JSON.parse(await runHostCommand("ip", ["-4", "-json", "address", "show"])));
  return links.flatMap(({ ifname, addr_info }) =>
    addr_info.map(({ local, prefixlen }) => ({ address: `${local}/${prefixlen}`, of: ifname })),
  );
}
