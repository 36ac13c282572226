import { type HostEndKind, type HostEndOptions, logLine } from "@northbridge/sdk";
import * as v from "valibot";
import { capture, type CaptureOptions } from "../capture/capture.ts";
import { type CommonNetConfig, defineNetKind } from "./define-net-kind.ts";

/** `{ kind: capture, path: net0.pcapng, link: { kind: user } }`. */
export interface CaptureConfig extends Pick<CaptureOptions, "path" | "snapLength"> {
  readonly link: HostEndOptions;
}

/** The kind `capture`: what passes through another kind, in a pcapng file. */
export const captureKind: HostEndKind<"net", CaptureConfig & CommonNetConfig> = defineNetKind({
  kind: "capture",
  options: {
    path: v.pipe(v.string("expected a path"), v.nonEmpty("expected a path")),
    snapLength: v.optional(v.number("expected a number")),
    link: v.looseObject({ kind: v.string() }),
  },
  ends: { link: "net" },
  async open({ path, snapLength, link }, context) {
    const { ends, device, clock } = context;
    const inner = await ends.net(link);
    try {
      const nowMs = (): number => clock.epochMs + clock.nowNs() / 1e6;
      const warn = (line: string): void => {
        logLine(context.log, context.device, line);
      };
      const backend = await capture(inner, { path, snapLength, interfaceName: device, nowMs, warn });
      return { backend, stats: () => ({ ...backend.stats }) };
    } catch (error) {
      await inner.close();
      throw error;
    }
  },
  tryOpen: ({ link }, { ends }) => ends.net(link),
});
