/** Parses untrusted config. Any Standard Schema validator fits (valibot, zod, arktype). */
export interface ConfigSchema<In, Out> {
  readonly "~standard": {
    readonly version: 1;
    readonly vendor: string;
    readonly validate: (value: unknown) => unknown;
    readonly types?: { readonly input: In; readonly output: Out } | undefined;
  };
}
