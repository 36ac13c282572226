/**
 * `pnpm kvm-kernel`: builds the Linux kernel that boots under any KVM, also one that has to emulate kernels, from
 * Debian's source, and prints its path. Its configuration, its only program and what it needs of a change are in
 * `packages/kvm-backend/test/kernel`. Needs apt-get, gcc, make, flex, bison, bc, xz and libelf's headers.
 *
 * Takes some four minutes of one processor and a gigabyte, once: the kernel stays in `.northbridge/kvm-kernel`.
 */
import { createHash } from "node:crypto";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { runMain, step, StepError } from "./step.mjs";
import { root } from "./workspace.mjs";

/** The release of Linux that the change is for. */
const PACKAGE = "linux-source-6.1";
const INPUTS = join(root, "packages", "kvm-backend", "test", "kernel");
const OUTPUT = join(root, ".northbridge", "kvm-kernel");
/** What no kernel of this configuration is made of: most of the source. `*` matches directories too. */
const UNUSED = [
  ...["arch/[!Kx]*.[chS]", "arch/*.dts*", "Documentation/*.[rsyt]*", "sound/*.[ch]", "tools/testing/*.[ch]"],
  ...["gpu", "infiniband", "media", "net/*", "scsi", "staging"].map((name) => `drivers/${name}/*.[ch]`),
];
const WITHOUT_SSE = ["-mno-sse", "-mno-red-zone", "-ffreestanding", "-fno-stack-protector"];

const read = (name) => readFileSync(join(INPUTS, name), "utf8");

/** Replaces the only place where `before` stands. */
function replaceOnce(text, before, after) {
  if (text.split(before).length !== 2)
    throw new StepError(`${PACKAGE}: expected once in its source: ${before}`);
  return text.replace(before, () => after);
}

/** Has page faults of SYSCALL at the kernel's entry make the call. */
function change(tree) {
  const file = join(tree, "arch", "x86", "mm", "fault.c");
  const head = "static __always_inline void\nhandle_page_fault(";
  let text = replaceOnce(readFileSync(file, "utf8"), head, `#include "syscall-at-cpl3.h"\n\n${head}`);
  const first = "\ttrace_page_fault_entries(regs, error_code, address);\n\n\tif (unlikely(kmmio_fault";
  const call = "\tif (is_syscall_at_cpl3(regs, address)) {\n\t\tsyscall_at_cpl3(regs);\n\t\treturn;\n\t}\n";
  text = replaceOnce(text, first, call + first);
  writeFileSync(file, text);
  writeFileSync(join(tree, "arch", "x86", "mm", "syscall-at-cpl3.h"), read("syscall-at-cpl3.h"));
}

async function build(directory) {
  await step("kvm-kernel: download", "apt-get", ["download", PACKAGE], { cwd: directory });
  const archive = readdirSync(directory).find((name) => name.endsWith(".deb"));
  await step("kvm-kernel: unpack", "dpkg-deb", ["-x", archive, "package"], { cwd: directory });
  const excludes = UNUSED.map((path) => `--exclude=${PACKAGE}/${path}`);
  const source = join("package", "usr", "src", `${PACKAGE}.tar.xz`);
  await step("kvm-kernel: extract", "tar", ["-xJf", source, ...excludes], { cwd: directory });
  const tree = join(directory, PACKAGE);
  change(tree);
  const program = [
    "-O2",
    "-static",
    "-nostdlib",
    ...WITHOUT_SSE,
    "-o",
    join(directory, "init"),
    join(INPUTS, "init.c"),
  ];
  await step("kvm-kernel: init", "gcc", program);
  const files = [
    ...["dir /dev 755 0 0", "nod /dev/console 600 0 0 c 5 1", "dir /proc 755 0 0"],
    `file /init ${join(directory, "init")} 755 0 0`,
  ];
  writeFileSync(join(directory, "files"), `${files.join("\n")}\n`);
  const config = `${read("kernel.config")}CONFIG_INITRAMFS_SOURCE="${join(directory, "files")}"\n`;
  writeFileSync(join(directory, "config"), config);
  const make = async (...args) => step(`kvm-kernel: make ${args[0]}`, "make", ["-s", ...args], { cwd: tree });
  await make("tinyconfig", `KCONFIG_ALLCONFIG=${join(directory, "config")}`);
  await make("vmlinux", `-j${availableParallelism()}`);
  await step("kvm-kernel: strip", "strip", ["-o", join(OUTPUT, "vmlinux.new"), "vmlinux"], { cwd: tree });
}

await runMain(async () => {
  const hash = createHash("sha256").update(readFileSync(import.meta.filename));
  for (const name of readdirSync(INPUTS).sort()) hash.update(name).update(read(name));
  const made = join(OUTPUT, "made-from");
  const kernel = join(OUTPUT, "vmlinux");
  const inputs = hash.digest("hex");
  if (!existsSync(made) || readFileSync(made, "utf8") !== inputs) {
    mkdirSync(OUTPUT, { recursive: true });
    const directory = join(OUTPUT, "build");
    rmSync(directory, { recursive: true, force: true }); // of one that was killed
    mkdirSync(directory);
    try {
      await build(directory);
    } finally {
      rmSync(directory, { recursive: true });
    }
    renameSync(`${kernel}.new`, kernel);
    writeFileSync(made, inputs);
  }
  process.stdout.write(`${kernel}\n`);
});
