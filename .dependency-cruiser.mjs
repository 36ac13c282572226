/**
 * The dependency law: what each package may import. A package or a folder that is not in `mayImport` may import
 * nothing of ours. Tests may use a little more: see `law-tests`.
 */
const mayImport = {
  // Sockets and locks of the host (docs/adr/0055).
  core: ["linux/"],
  sdk: ["core/src/contracts/"],
  // The i8259 and the IOAPIC are pure chips that a backend embeds (docs/adr/0004, 0034).
  "soft-backend": ["sdk/", "devices-legacy/"],
  linux: [],
  "kvm-backend": ["sdk/", "linux/", "devices-legacy/"],
  "devices-legacy": ["sdk/"],
  "devices-virtio": ["sdk/"],
  "vhost-user": ["sdk/", "linux/"],
  "net-tap": ["sdk/", "linux/"],
  "storage-qcow2": ["sdk/", "linux/"],
};

const tests = "\\.test\\.ts$|^packages/[^/]+/test/";

/** `sdk/src/host/` joins a device to the real core: the one part of the SDK that sees more than contracts. */
const sdkHost = "^packages/sdk/src/host/";

const packageLaw = Object.entries(mayImport).map(([name, allowed]) => ({
  name: `law-${name}`,
  severity: "error",
  comment: `packages/${name} may import of ours only: ${allowed.join(", ") || "nothing"}`,
  from: { path: `^packages/${name}/`, pathNot: [tests, sdkHost] },
  to: { path: "^packages/", pathNot: [`^packages/${name}/`, ...allowed.map((to) => `^packages/${to}`)] },
}));

export default {
  forbidden: [
    { name: "no-circular", severity: "error", from: {}, to: { circular: true } },
    { name: "no-unresolvable", severity: "error", from: {}, to: { couldNotResolve: true } },
    ...packageLaw,
    {
      name: "law-sdk-host",
      severity: "error",
      comment: "sdk/host may import core, and nothing else of ours",
      from: { path: sdkHost, pathNot: tests },
      to: { path: "^packages/", pathNot: ["^packages/sdk/", "^packages/core/"] },
    },
    {
      name: "law-tests",
      severity: "error",
      comment: "tests may also use what builds a machine around the tested package",
      from: { path: "^packages/([^/]+)/(test/|.*\\.test\\.ts$)", pathNot: "^packages/cli/" },
      to: {
        path: "^packages/",
        pathNot: ["^packages/$1/", "^packages/(core|sdk|soft-backend|devices-legacy|devices-virtio|linux)/"],
      },
    },
    {
      name: "law-examples",
      severity: "error",
      comment: "an example sees only what is published: package names, never paths into packages/",
      from: { path: "^examples/" },
      to: { path: "^packages/", dependencyTypes: ["local"] },
    },
    {
      name: "contracts-stand-alone",
      severity: "error",
      comment: "core/contracts are interfaces: they import each other and nothing else",
      from: { path: "^packages/core/src/contracts/", pathNot: tests },
      to: { pathNot: "^packages/core/src/contracts/" },
    },
    {
      name: "only-composition-knows-tsyringe",
      severity: "error",
      from: { path: "^(packages|examples)/", pathNot: "^packages/core/src/composition/" },
      to: { path: "(^|/)(tsyringe|reflect-metadata)(/|$)" },
    },
    {
      name: "only-linux-knows-koffi",
      severity: "error",
      from: { path: "^(packages|examples)/", pathNot: "^packages/linux/" },
      to: { path: "(^|/)koffi(/|$)" },
    },
    {
      name: "devices-have-no-host",
      severity: "error",
      comment: "no files, sockets or timers in a device or a contract: they are injected",
      from: {
        path: "^packages/(devices-[^/]+|sdk|core/src/contracts)/",
        pathNot: [tests, sdkHost, "/tsup\\.config\\.ts$"],
      },
      to: { dependencyTypes: ["core"] },
    },
    {
      name: "no-dev-dependency-in-product",
      severity: "error",
      from: { path: "^packages/[^/]+/src/", pathNot: tests },
      to: { dependencyTypes: ["npm-dev"], dependencyTypesNot: ["type-only"] },
    },
  ],
  options: {
    tsPreCompilationDeps: true,
    tsConfig: { fileName: "tsconfig.base.json" },
    doNotFollow: { path: "node_modules" },
    exclude: { path: "(^|/)(dist|generated|coverage)/|^packages/[^/]+/assembly/" },
    enhancedResolveOptions: {
      exportsFields: ["exports"],
      conditionNames: ["northbridge-source", "types", "import", "node", "default"],
    },
  },
};
