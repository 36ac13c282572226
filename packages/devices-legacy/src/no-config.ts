import type { ConfigSchema } from "@northbridge/sdk";
import * as v from "valibot";

/** Config of a device that has nothing to configure: `{}`. */
export type NoConfig = Readonly<Record<string, never>>;

export const NoConfigSchema: ConfigSchema<NoConfig, NoConfig> = v.strictObject({});
