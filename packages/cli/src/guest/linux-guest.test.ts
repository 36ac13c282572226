import { execFileSync } from "node:child_process";
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { NorthbridgeError } from "@northbridge/core";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { READY_LINE } from "./initramfs.ts";
import { fetchLinuxGuest } from "./linux-guest.ts";

/** Programs that stand in for apt, found first on PATH. They log how they are called, and do as files beside them say. */
const APT_CACHE = `#!/bin/sh
echo "apt-cache $*" >> "$FAKE_APT/log"
[ -e "$FAKE_APT/lists" ] || { echo "E: No packages found" >&2; exit 100; }
echo "$2"
echo "  Depends: linux-image-6.1.0-1-test-amd64"
`;
const APT_GET = `#!/bin/sh
echo "apt-get $*" >> "$FAKE_APT/log"
case "$*" in
update) [ ! -e "$FAKE_APT/offline" ] && touch "$FAKE_APT/lists" ;;
*download*)
  [ -e "$FAKE_APT/offline" ] && { echo "E: Failed to fetch" >&2; exit 100; }
  for name; do :; done
  touch "\${name}_1_amd64.deb" ;;
esac
`;
const DPKG_DEB = `#!/bin/sh
[ -e "$FAKE_APT/bad-package" ] && { echo "dpkg-deb: error: not a Debian archive" >&2; exit 2; }
case "$2" in
*linux-image*)
  mkdir -p "$3/boot" "$3/lib/modules/6.1.0-1-test-amd64/kernel"
  echo kernel > "$3/boot/vmlinuz-6.1.0-1-test-amd64" ;;
*busybox*)
  mkdir -p "$3/bin"
  printf '#!/bin/sh\\nprintf "bin/busybox\\\\nbin/ls\\\\nusr/bin/awk\\\\n"\\n' > "$3/bin/busybox"
  chmod +x "$3/bin/busybox" ;;
esac
`;

let directory = "";
let out = "";
const path = process.env["PATH"];

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "northbridge-test-"));
  out = join(directory, "guest");
  const bin = join(directory, "bin");
  await mkdir(bin);
  for (const [name, script] of Object.entries({
    "apt-cache": APT_CACHE,
    "apt-get": APT_GET,
    "dpkg-deb": DPKG_DEB,
  })) {
    await writeFile(join(bin, name), script);
    await chmod(join(bin, name), 0o755);
  }
  process.env["PATH"] = `${bin}:${path ?? ""}`;
  process.env["FAKE_APT"] = directory;
  process.env["TMPDIR"] = join(directory, "tmp");
  await mkdir(join(directory, "tmp"));
  await put("lists");
});

afterEach(async () => {
  vi.restoreAllMocks();
  process.env["PATH"] = path;
  delete process.env["FAKE_APT"];
  delete process.env["TMPDIR"];
  await rm(directory, { recursive: true, force: true });
});

const put = (name: string): Promise<void> => writeFile(join(directory, name), "");
const take = (name: string): Promise<void> => rm(join(directory, name));
const log = async (): Promise<string[]> =>
  (await readFile(join(directory, "log"), "utf8").catch(() => "")).split("\n").slice(0, -1);
const asUser = (uid: number): void => void vi.spyOn(process, "geteuid").mockReturnValue(uid);

/** The error, with nothing left of the attempt. */
async function failure(
  options: Partial<Parameters<typeof fetchLinuxGuest>[0]> = {},
): Promise<NorthbridgeError> {
  const error: unknown = await fetchLinuxGuest({ flavour: "cloud", out, ...options }).catch(
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(NorthbridgeError);
  expect(await readdir(join(directory, "tmp"))).toEqual([]);
  expect(await readdir(out).catch(() => [])).toEqual([]);
  return error as NorthbridgeError;
}

describe("fetchLinuxGuest", () => {
  it("leaves a kernel and an initramfs, and nothing else", async () => {
    const guest = await fetchLinuxGuest({ flavour: "cloud", out });
    expect(guest).toEqual({
      kernel: join(out, "vmlinuz"),
      initrd: join(out, "initrd.img"),
      package: "linux-image-6.1.0-1-test-amd64",
      cached: false,
    });
    expect((await readdir(out)).sort()).toEqual(["guest.json", "initrd.img", "vmlinuz"]);
    expect(await readdir(join(directory, "tmp"))).toEqual([]);
    expect(await readFile(guest.kernel, "utf8")).toBe("kernel\n");
    const initramfs = await readFile(guest.initrd, "latin1");
    expect(initramfs).toContain(READY_LINE);
    for (const name of ["init", "bin/busybox", "bin/ls", "usr/bin/awk", "dev/console"]) {
      expect(initramfs).toContain(`${name}\0`);
    }
    expect(initramfs).toContain("lib/modules/6.1.0-1-test-amd64/modules.dep\0");
  });

  it("is done at once when it is all there, without apt", async () => {
    const first = await fetchLinuxGuest({ flavour: "cloud", out });
    process.env["PATH"] = directory;
    expect(await fetchLinuxGuest({ flavour: "cloud", out })).toEqual({ ...first, cached: true });
  });

  it("makes it anew for other options, or where a file is gone", async () => {
    await fetchLinuxGuest({ flavour: "cloud", out });
    expect((await fetchLinuxGuest({ flavour: "full", out })).cached).toBe(false);
    expect((await fetchLinuxGuest({ flavour: "full", out })).cached).toBe(true);
    await rm(join(out, "initrd.img"));
    expect((await fetchLinuxGuest({ flavour: "full", out })).cached).toBe(false);
  });

  it("asks for the package of the flavour", async () => {
    await fetchLinuxGuest({ flavour: "full", out });
    const calls = await log();
    expect(calls[0]).toBe("apt-cache depends linux-image-amd64");
    expect(calls.some((call) => call.endsWith("download linux-image-6.1.0-1-test-amd64"))).toBe(true);
    expect(calls.some((call) => call.endsWith("download busybox-static"))).toBe(true);
  });

  it("puts files and programs of the host in", async () => {
    const file = join(directory, "answer.txt");
    await writeFile(file, "forty-two");
    await fetchLinuxGuest({
      flavour: "cloud",
      out,
      add: [{ host: file, guest: "/data/answer" }],
      addBinaries: ["/bin/sh"],
    });
    const initramfs = await readFile(join(out, "initrd.img"), "latin1");
    expect(initramfs).toContain("data/answer\0");
    expect(initramfs).toContain("forty-two");
    expect(initramfs).toMatch(/ld-[^/]*\.so[^/]*\0/);
  });

  it("refreshes package lists that are missing, as root only", async () => {
    await take("lists");
    asUser(1000);
    const error = await failure();
    expect(error.code).toBe("NB_HOST");
    expect(error.message).toBe(
      "guest linux: expected linux-image-cloud-amd64 in apt's package lists, found none and may not refresh them: " +
        "run apt-get update as root, or boot your own kernel: northbridge run MACHINE --kernel FILE --initrd FILE",
    );
    asUser(0);
    expect((await fetchLinuxGuest({ flavour: "cloud", out })).cached).toBe(false);
    expect(await log()).toContain("apt-get update");
  });

  it("says what to do without apt", async () => {
    process.env["PATH"] = directory;
    const { code, message } = await failure();
    expect(code).toBe("NB_HOST");
    expect(message).toMatch(/^guest linux: expected apt.* found none: .*--kernel FILE --initrd FILE$/);
  });

  it("leaves nothing behind when a download fails, or what came is no package", async () => {
    await put("offline");
    asUser(1000);
    expect((await failure()).message).toContain("cannot download linux-image-6.1.0-1-test-amd64");
    await take("offline");
    await put("bad-package");
    expect((await failure()).message).toContain("dpkg-deb: error: not a Debian archive");
  });

  it.each(["fetching busybox-static", "building the initramfs"])(
    "stops when it is interrupted at %s",
    async (at) => {
      const abort = new AbortController();
      const onStep = (step: string): void => {
        if (step === at) abort.abort();
      };
      const { code, message } = await failure({ onStep, signal: abort.signal });
      expect([code, message]).toEqual(["NB_HOST", "guest linux: interrupted"]);
    },
  );

  it("names a directory that cannot be written", async () => {
    await writeFile(out, "a file");
    const error: unknown = await fetchLinuxGuest({ flavour: "cloud", out: join(out, "below") }).catch(
      (e: unknown) => e,
    );
    expect(error).toMatchObject({
      code: "NB_HOST",
      message: expect.stringContaining(`cannot write to ${out}/below`) as string,
    });
    expect((await stat(out)).isFile()).toBe(true);
  });

  it("refuses a path in the guest that is not absolute", async () => {
    const { code, message } = await failure({ add: [{ host: "/etc/hostname", guest: "etc/hostname" }] });
    expect([code, message]).toEqual([
      "NB_CONFIG",
      "guest linux: expected an absolute path, found etc/hostname",
    ]);
  });

  it("builds an /init that a shell can read", async () => {
    await fetchLinuxGuest({ flavour: "cloud", out });
    const initramfs = await readFile(join(out, "initrd.img"), "latin1");
    const start = initramfs.indexOf("#!/bin/busybox sh");
    const script = initramfs.slice(start, initramfs.indexOf("poweroff -f\n", start) + 12);
    expect(execFileSync("sh", ["-n"], { input: script, encoding: "utf8" })).toBe("");
  });
});
