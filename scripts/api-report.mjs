/**
 * What our packages promise, as text: a report of every public declaration of `sdk` and `core/contracts` in docs/api,
 * made from the built types by API Extractor. Fails where a report is not up to date, and says in which lines; `--write`
 * brings them up to date.
 */
import { spawnSync } from "node:child_process";
import { mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { Extractor, ExtractorConfig } from "@microsoft/api-extractor";
import { runMain, StepError } from "./step.mjs";
import { root } from "./workspace.mjs";

const reports = join(root, "docs", "api");
const scratch = join(root, ".northbridge", "api");
const entries = [
  ["core", "contracts"],
  ...[
    "",
    "testing",
    "vitest",
    "fuzz",
    "recording",
    "reload",
    "conformance",
    "pci",
    "virtio",
    "host",
    "asm",
  ].map((entry) => ["sdk", entry]),
];

await runMain(() => {
  const isWriting = process.argv.includes("--write");
  rmSync(scratch, { recursive: true, force: true });
  mkdirSync(scratch, { recursive: true });
  mkdirSync(reports, { recursive: true });
  const stale = [];
  for (const [name, entry] of entries) {
    const projectFolder = join(root, "packages", name);
    const reportFileName = [name, entry].filter(Boolean).join("-");
    const config = ExtractorConfig.prepare({
      packageJsonFullPath: join(projectFolder, "package.json"),
      configObjectFullPath: undefined,
      configObject: {
        projectFolder,
        mainEntryPointFilePath: join(projectFolder, "dist", entry, "index.d.ts"),
        compiler: {
          overrideTsconfig: {
            compilerOptions: {
              target: "es2022",
              module: "nodenext",
              lib: ["es2022", "esnext.disposable"],
              strict: true,
              types: name === "sdk" && entry === "host" ? ["node"] : [],
              skipLibCheck: true,
            },
            include: [join(projectFolder, "dist")],
          },
        },
        apiReport: {
          enabled: true,
          reportFileName,
          reportFolder: reports,
          reportTempFolder: scratch,
          includeForgottenExports: false,
        },
        docModel: { enabled: false },
        dtsRollup: { enabled: false },
        tsdocMetadata: { enabled: false },
        messages: {
          compilerMessageReporting: { default: { logLevel: "none" } },
          extractorMessageReporting: { default: { logLevel: "none" } },
          tsdocMessageReporting: { default: { logLevel: "none" } },
        },
      },
    });
    const result = Extractor.invoke(config, {
      localBuild: isWriting,
      messageCallback: (message) => {
        message.handled = true;
      },
    });
    if (result.apiReportChanged && !isWriting) stale.push(reportFileName);
  }
  for (const name of stale) {
    const [before, after] = [reports, scratch].map((folder) => join(folder, `${name}.api.md`));
    const { stdout } = spawnSync("git", ["diff", "--no-index", "--unified=1", before, after], {
      encoding: "utf8",
    });
    process.stderr.write(stdout);
  }
  if (stale.length > 0)
    throw new StepError(`the API has changed: node scripts/api-report.mjs --write, and a changeset`);
  process.stderr.write(`${String(entries.length)} API reports are up to date\n`);
  return 0;
});
