import { SystemCallError } from "@northbridge/linux";
import { NorthbridgeError } from "@northbridge/sdk";
import type { TapOptions } from "./tap-options.ts";

/** Says what to do about a tap that the host refuses; other errors as they are. */
export function explainTapError(error: unknown, options: TapOptions): unknown {
  if (!(error instanceof SystemCallError)) return error;
  const { path, reason } = diagnose(error, options);
  return new NorthbridgeError("NB_HOST", `${path}: ${reason}`, { cause: error });
}

function diagnose(
  error: SystemCallError,
  options: TapOptions,
): { readonly path: string; readonly reason: string } {
  const { errno, message } = error;
  const name = options.name ?? "nb%d";
  const owned =
    "`ip tuntap add mode tap user $USER name NAME` as root, or run with CAP_NET_ADMIN, or use kind: user";
  if (options.fds !== undefined) return { path: "fds", reason: `expected open queues of a tap: ${message}` };
  const { namespace } = options;
  if (namespace !== undefined && message.includes(namespace)) {
    if (errno === "EPERM")
      return { path: "namespace", reason: `this user may not enter ${namespace}: run with CAP_SYS_ADMIN` };
    if (errno === "ENOENT")
      return {
        path: "namespace",
        reason: `there is no namespace ${namespace}: \`ip netns add ${namespace}\``,
      };
    return { path: "namespace", reason: `expected a network namespace: ${message}` };
  }
  if (message.includes("/dev/net/tun")) {
    if (errno === "ENOENT")
      return { path: "kind", reason: "there is no /dev/net/tun: `modprobe tun`, or use kind: user" };
    if (errno === "EACCES" || errno === "EPERM") {
      return { path: "kind", reason: `this user may not open /dev/net/tun: ${owned}` };
    }
  }
  if (message.includes("SIOCBRADDIF") || message.includes(`of ${options.bridge ?? "\0"}`)) {
    const missing = `there is no bridge ${options.bridge ?? ""}: \`northbridge net setup\` makes one`;
    if (errno === "ENODEV" || errno === "EOPNOTSUPP") return { path: "bridge", reason: missing };
    if (errno === "EBUSY") return { path: "bridge", reason: `${name} is a port of another bridge` };
    if (errno === "EPERM")
      return { path: "bridge", reason: "this user may not add ports to bridges: run with CAP_NET_ADMIN" };
  }
  if (message.includes("SIOCSIFMTU"))
    return { path: "mtu", reason: `${name} does not take ${options.mtu ?? 0}: ${message}` };
  if (errno === "EBUSY")
    return { path: "name", reason: `${name} is in use by another process: choose another, or end that one` };
  if (errno === "EINVAL") {
    return {
      path: "name",
      reason: `${name} is there and is no tap, or has other queues: choose another name`,
    };
  }
  if (errno === "EPERM") return { path: "name", reason: `this user may not make or open ${name}: ${owned}` };
  return { path: "name", reason: message };
}
