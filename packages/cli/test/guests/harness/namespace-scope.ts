import { enterNetworkNamespace } from "@northbridge/linux";
import { namespaceObstacle, NetworkNamespace } from "../../../../net-tap/test/network-namespace.ts";
import { missingTools } from "./host-tools.ts";

/** Why this test has no network namespace to be in, `undefined` where it has. */
export const scopeObstacle = (...programs: readonly string[]): string | undefined =>
  namespaceObstacle() ?? missingTools(...programs);

/** A network namespace that this test and what it starts are in, to the end of the scope. */
export async function namespaceScope(): Promise<AsyncDisposable & Pick<NetworkNamespace, "name" | "run">> {
  const namespace = await NetworkNamespace.make();
  const leave = enterNetworkNamespace(`/run/netns/${namespace.name}`);
  return {
    name: namespace.name,
    run: (program, ...args) => namespace.run(program, ...args),
    async [Symbol.asyncDispose]() {
      leave();
      await namespace[Symbol.asyncDispose]();
    },
  };
}
