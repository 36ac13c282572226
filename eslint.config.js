import tseslint from "typescript-eslint";

/** Rules of the domain, for every package's sources. */
const synchronousHandlers = {
  selector: ":matches(MethodDefinition, Property)[key.name=/^(read|write)$/] > :function[async=true]",
  message: "register handlers are synchronous: queue slow work and complete it by an interrupt",
};

const noBigInt = {
  selector: "Literal[bigint]",
  message: "no BigInt in devices: split 64-bit registers into lo/hi",
};

const noBigIntCalls = {
  selector: "Identifier[name='BigInt']",
  message: "no BigInt in devices: split 64-bit registers into lo/hi",
};

const hostGlobals = [
  { name: "Buffer", message: "use Uint8Array and DataView" },
  { name: "process", message: "a device takes what it needs from its context" },
  { name: "setTimeout", message: "use the injected Clock" },
  { name: "setInterval", message: "use the injected Clock" },
  { name: "setImmediate", message: "use the injected Clock" },
  { name: "performance", message: "use the injected Clock" },
];

export default tseslint.config(
  {
    ignores: [
      "**/dist/",
      "**/generated/",
      "**/coverage/",
      "**/.northbridge/",
      // AssemblyScript: TypeScript's grammar, but neither its types nor its library.
      "packages/*/assembly/",
    ],
  },
  {
    files: [
      "packages/*/src/**/*.ts",
      "packages/*/scripts/**/*.ts",
      "packages/*/test/**/*.ts",
      "examples/*/**/*.ts",
    ],
    extends: [tseslint.configs.strictTypeChecked],
    languageOptions: {
      parserOptions: {
        // One program for all: a project service would keep one for each package, and more than Node's heap holds.
        // The build of the wasm, which tests use too, brings AssemblyScript's idea of JavaScript's library, which must not reach the others.
        project: ["./tsconfig.lint.json", "./packages/soft-backend/tsconfig.json"],
        tsconfigRootDir: import.meta.dirname,
      },
    },
    linterOptions: { reportUnusedDisableDirectives: "error" },
    rules: {
      "@typescript-eslint/restrict-template-expressions": ["error", { allowNumber: true }],
      "@typescript-eslint/no-unused-vars": [
        "error",
        { argsIgnorePattern: "^_", varsIgnorePattern: "^_", ignoreRestSiblings: true },
      ],
      "@typescript-eslint/switch-exhaustiveness-check": [
        "error",
        { considerDefaultExhaustiveForUnions: true },
      ],
      "@typescript-eslint/consistent-type-imports": "error",
      "@typescript-eslint/no-confusing-void-expression": ["error", { ignoreArrowShorthand: true }],
      eqeqeq: "error",
      "@typescript-eslint/triple-slash-reference": [
        "error",
        { path: "always", types: "never", lib: "never" },
      ],
    },
  },
  {
    files: ["packages/{core,sdk,soft-backend,kvm-backend,devices-*}/**/*.ts"],
    ignores: ["packages/core/src/{host,snapshot}/**"],
    rules: { "no-restricted-syntax": ["error", synchronousHandlers] },
  },
  {
    files: ["packages/devices-*/src/**/*.ts"],
    ignores: ["**/*.test.ts"],
    rules: {
      "no-restricted-globals": ["error", ...hostGlobals],
      "no-restricted-syntax": ["error", synchronousHandlers, noBigInt, noBigIntCalls],
      "no-restricted-properties": [
        "error",
        { object: "Date", property: "now", message: "use the injected Clock" },
      ],
    },
  },
  {
    // Contracts are interfaces: no host, no run time beyond errors and tokens.
    files: ["packages/core/src/contracts/**/*.ts", "packages/sdk/src/**/*.ts"],
    ignores: ["**/*.test.ts", "packages/sdk/src/host/**"],
    rules: { "no-restricted-globals": ["error", ...hostGlobals] },
  },
  {
    files: ["**/*.test.ts", "packages/*/test/**/*.ts"],
    rules: {
      // A test says what it expects of an index; the assertion after it is the check.
      "@typescript-eslint/no-non-null-assertion": "off",
      "@typescript-eslint/no-unnecessary-condition": "off",
      // Vitest's asymmetric matchers are `any`, and spies are methods by another name.
      "@typescript-eslint/no-unsafe-assignment": "off",
      "@typescript-eslint/unbound-method": "off",
    },
  },
);
