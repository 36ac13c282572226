import {
  chmodSync,
  chownSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { isMainThread } from "node:worker_threads";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { HostDirectory, type HostDirectoryOptions } from "../src/index.ts";

// errno(3) and open(2), from the manual.
const [EPERM, EEXIST, EISDIR, EINVAL, EROFS, ENAMETOOLONG, ELOOP, ESTALE] = [1, 17, 21, 22, 30, 36, 40, 116];
const [ENOENT, EBADF, ENOTDIR, EACCES, ENFILE, EFBIG] = [2, 9, 20, 13, 23, 27];
const NOBODY = 65534;
const [O_RDONLY, O_WRONLY, O_RDWR, O_EXCL, O_TRUNC] = [0, 1, 2, 0o200, 0o1000];

const isLinux = process.platform === "linux" && process.arch === "x64";
const openFds = (): number => readdirSync("/proc/self/fd").length;
const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const text = (from: Uint8Array | number): string | number =>
  typeof from === "number" ? from : new TextDecoder().decode(from);
const me = { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 };

describe.skipIf(!isLinux)("HostDirectory (needs Linux on x86-64)", () => {
  let around: string;
  let inside: string;
  let tree: HostDirectory;
  let fds: number;
  const open = (options: HostDirectoryOptions = {}): HostDirectory => HostDirectory.open(inside, options);

  beforeEach(() => {
    around = mkdtempSync(join(tmpdir(), "northbridge-tree-"));
    inside = join(around, "inside");
    mkdirSync(inside);
    writeFileSync(join(around, "secret"), "secret");
    mkdirSync(join(around, "outside"));
    fds = openFds();
    tree = open();
  });
  afterEach(async () => {
    await tree.closeTree();
    expect(openFds()).toBe(fds);
    rmSync(around, { recursive: true });
  });

  const find = (...names: string[]): number =>
    names.reduce((parent, name) => tree.lookup(parent, bytes(name)), tree.root);
  const content = (node: number): string | number => {
    const handle = tree.open(node, O_RDONLY);
    if (handle < 0) return handle;
    const into = new Uint8Array(100);
    const length = tree.read(handle, 0, [into]);
    tree.close(handle);
    return length < 0 ? length : text(into.subarray(0, length));
  };
  const listing = (handle: number): string[] => {
    const names: string[] = [];
    let position: readonly [number, number] = [0, 0];
    while (tree.entryAt(handle, ...position) === 1) {
      names.push(String(text(tree.entry.name)));
      position = [tree.entry.nextLow, tree.entry.nextHigh];
    }
    return names;
  };

  it("says which directory it cannot have", () => {
    expect(() => HostDirectory.open(join(around, "none"))).toThrow(/none: open failed with ENOENT/);
    expect(() => HostDirectory.open(join(around, "secret"))).toThrow(/secret: open failed with ENOTDIR/);
  });

  it.each(["..", ".", "", "a/b", "/etc/passwd", "../secret", "a\0b"])("finds nothing called %j", (name) => {
    mkdirSync(join(inside, "a"));
    const owner = me;
    expect([
      tree.lookup(tree.root, bytes(name)),
      tree.makeDirectory(tree.root, bytes(name), 0o755, owner),
      tree.makeNode(tree.root, bytes(name), 0o100644, owner),
      tree.create(tree.root, bytes(name), O_RDWR, 0o644, owner),
      tree.makeSymbolicLink(tree.root, bytes(name), bytes("x"), owner),
      tree.unlink(tree.root, bytes(name)),
      tree.removeDirectory(tree.root, bytes(name)),
      tree.rename(tree.root, bytes("a"), tree.root, bytes(name), 0),
      tree.rename(tree.root, bytes(name), tree.root, bytes("b"), 0),
      tree.makeLink(find("a"), tree.root, bytes(name)),
    ]).toEqual(new Array(10).fill(-EINVAL));
    expect(readdirSync(inside)).toEqual(["a"]);
    expect(readdirSync(around).sort()).toEqual(["inside", "outside", "secret"]);
  });

  it("does not follow symbolic links, wherever they point", () => {
    for (const target of [join(around, "secret"), "../secret", "/etc/passwd", "self"]) {
      const name = target.replaceAll("/", "_");
      symlinkSync(target, join(inside, name));
      const link = find(name);
      expect(text(tree.readLink(link))).toBe(target);
      expect(tree.attributes.mode & 0o170000).toBe(0o120000);
      expect([tree.open(link, O_RDONLY), tree.open(link, O_RDWR)]).toEqual([-ELOOP, -ELOOP]);
      expect(tree.create(tree.root, bytes(name), O_RDWR, 0o644, me)).toBe(-ELOOP);
      expect(tree.setAttributes(link, { size: 0 }, undefined)).toBe(-EINVAL);
      expect(tree.setAttributes(link, { mode: 0o777 }, undefined)).toBeLessThan(0);
    }
    symlinkSync("../outside", join(inside, "out"));
    const out = find("out");
    expect(tree.lookup(out, bytes("x"))).toBe(-ENOTDIR);
    expect(tree.openDirectory(out)).toBeLessThan(0);
    expect(tree.makeDirectory(out, bytes("x"), 0o755, me)).toBe(-ENOTDIR);
    expect(tree.rename(tree.root, bytes("out"), out, bytes("x"), 0)).toBe(-ENOTDIR);
    expect(readFileSync(join(around, "secret"), "utf8")).toBe("secret");
    expect(readdirSync(join(around, "outside"))).toEqual([]);
  });

  it("stays in the directory it found, though a link takes its place", () => {
    mkdirSync(join(inside, "a"));
    const a = find("a");
    renameSync(join(inside, "a"), join(inside, "b"));
    symlinkSync("../outside", join(inside, "a"));
    const handle = tree.create(a, bytes("new"), O_WRONLY, 0o600, me);
    expect(tree.write(handle, 0, [bytes("here")])).toBe(4);
    tree.close(handle);
    expect(readFileSync(join(inside, "b", "new"), "utf8")).toBe("here");
    expect(readdirSync(join(around, "outside"))).toEqual([]);
    // Moved out of the tree by the host, a directory stays what it is: the guest holds it, and cannot climb from it.
    renameSync(join(inside, "b"), join(around, "outside", "b"));
    expect(tree.lookup(a, bytes(".."))).toBe(-EINVAL);
    expect(content(tree.lookup(a, bytes("new")))).toBe("here");
  });

  it("makes, finds, changes and removes files as the host does", () => {
    const handle = tree.create(tree.root, bytes("f"), O_RDWR | O_EXCL, 0o666, me);
    const node = tree.createdNode;
    expect(tree.attributes.mode).toBe(0o100666); // the guest has applied its own umask
    expect(tree.write(handle, 3, [bytes("de"), bytes(""), bytes("f")])).toBe(3);
    expect(
      tree.setAttributes(node, { size: 5, mtime: { seconds: 1e9, nanoseconds: 123_456_789 } }, handle),
    ).toBe(0);
    const stat = lstatSync(join(inside, "f"), { bigint: true });
    expect([stat.size, stat.mtimeNs]).toEqual([5n, 1_000_000_000_123_456_789n]);
    const { size, mtime, mtimeNs, inodeLow, inodeHigh, links } = tree.attributes;
    expect([size, mtime, mtimeNs, links]).toEqual([5, 1e9, 123_456_789, 1]);
    expect(BigInt(inodeHigh) * 2n ** 32n + BigInt(inodeLow)).toBe(stat.ino);
    expect(tree.create(tree.root, bytes("f"), O_RDWR | O_EXCL, 0o600, me)).toBe(-EEXIST);
    const again = tree.create(tree.root, bytes("f"), O_RDWR | O_TRUNC, 0o600, me);
    expect([tree.createdNode, readFileSync(join(inside, "f")).length]).toEqual([node, 0]);
    tree.close(again);
    expect(tree.makeLink(node, tree.root, bytes("g"))).toBe(node);
    expect(tree.attributes.links).toBe(2);
    expect(tree.setAttributes(node, { mode: 0o4750, atime: "now" }, undefined)).toBe(0);
    expect(lstatSync(join(inside, "g")).mode & 0o7777).toBe(0o4750);
    expect(tree.unlink(tree.root, bytes("f"))).toBe(0);
    expect(tree.rename(tree.root, bytes("g"), tree.root, bytes("h"), 0)).toBe(0);
    expect(tree.makeDirectory(tree.root, bytes("d"), 0o777, me)).toBeGreaterThan(0);
    expect(lstatSync(join(inside, "d")).mode & 0o777).toBe(0o777);
    expect(tree.rename(tree.root, bytes("h"), find("d"), bytes("h"), 1)).toBe(0);
    expect(tree.rename(tree.root, bytes("h"), tree.root, bytes("i"), 0)).toBe(-ENOENT);
    expect(tree.removeDirectory(tree.root, bytes("d"))).toBe(-39); // ENOTEMPTY
    expect(tree.makeSymbolicLink(tree.root, bytes("l"), bytes("d/h"), me)).toBeGreaterThan(0);
    expect([readlinkSync(join(inside, "l")), readdirSync(join(inside, "d"))]).toEqual(["d/h", ["h"]]);
    // Unlinked, and still open.
    expect(tree.unlink(find("d"), bytes("h"))).toBe(0);
    expect(tree.write(handle, 0, [bytes("still")])).toBe(5);
    expect([tree.getAttributes(node), tree.attributes.links]).toEqual([0, 0]);
    tree.close(handle);
    expect(tree.read(handle, 0, [new Uint8Array(1)])).toBe(-EBADF);
  });

  it("opens no device, FIFO or directory as a file, and makes no device", () => {
    expect(tree.makeNode(tree.root, bytes("null"), 0o020666, me)).toBe(-EPERM);
    expect(tree.makeNode(tree.root, bytes("disk"), 0o060666, me)).toBe(-EPERM);
    const fifo = tree.makeNode(tree.root, bytes("fifo"), 0o010666, me);
    expect([tree.open(fifo, O_RDONLY), tree.create(tree.root, bytes("fifo"), O_RDWR, 0o600, me)]).toEqual([
      -EINVAL,
      -EINVAL,
    ]);
    expect(tree.open(tree.root, O_RDONLY)).toBe(-EISDIR);
    expect(tree.lookup(tree.root, new Uint8Array(256).fill(0x61))).toBe(-ENAMETOOLONG);
    expect(tree.getAttributes(999)).toBe(-ESTALE);
  });

  it("lists a directory from any entry on", () => {
    const names = Array.from({ length: 1500 }, (_, i) => `a file with a long name, number ${i}`);
    for (const name of names) writeFileSync(join(inside, name), "");
    const handle = tree.openDirectory(tree.root);
    expect(listing(handle).sort()).toEqual([".", "..", ...names].sort());
    expect(listing(handle).sort()).toEqual([".", "..", ...names].sort()); // from the start again
    const order: [string, number, number][] = [];
    let at: readonly [number, number] = [0, 0];
    while (tree.entryAt(handle, ...at) === 1) {
      order.push([String(text(tree.entry.name)), ...at]);
      at = [tree.entry.nextLow, tree.entry.nextHigh];
    }
    for (const index of [1499, 3, 700, 701, 0]) {
      const [name = "", low = 0, high = 0] = order[index] ?? [];
      expect([tree.entryAt(handle, low, high), text(tree.entry.name)]).toEqual([1, name]);
    }
    tree.close(handle);
  });

  it("changes nothing where it is read only", async () => {
    writeFileSync(join(inside, "f"), "f");
    await tree.closeTree();
    tree = open({ readOnly: true });
    const f = find("f");
    expect(content(f)).toBe("f");
    expect([
      tree.open(f, O_RDWR),
      tree.open(f, O_RDONLY | O_TRUNC),
      tree.create(tree.root, bytes("g"), O_RDWR, 0o600, me),
      tree.setAttributes(f, { mode: 0 }, undefined),
      tree.unlink(tree.root, bytes("f")),
      tree.rename(tree.root, bytes("f"), tree.root, bytes("g"), 0),
      tree.makeLink(f, tree.root, bytes("g")),
    ]).toEqual(new Array(7).fill(-EROFS));
    expect(readdirSync(inside)).toEqual(["f"]);
  });

  it("shows every file as one owner's where it is told to", async () => {
    await tree.closeTree();
    tree = open({ squash: { uid: 1234, gid: 5678 } });
    const handle = tree.create(tree.root, bytes("f"), O_RDWR, 0o600, { uid: 1, gid: 2 });
    expect([tree.attributes.uid, tree.attributes.gid]).toEqual([1234, 5678]);
    expect(tree.setAttributes(tree.createdNode, { uid: 7, gid: 7 }, handle)).toBe(0);
    const { uid, gid } = lstatSync(join(inside, "f"));
    expect({ uid, gid }).toEqual(me);
  });

  it("knows an inode by one number, until it is forgotten as often as it was found", () => {
    writeFileSync(join(inside, "f"), "f");
    linkSync(join(inside, "f"), join(inside, "g"));
    const node = find("f");
    expect([find("g"), find("f")]).toEqual([node, node]);
    tree.forget(node, 2);
    expect(content(node)).toBe("f");
    tree.forget(node, 1);
    expect(content(node)).toBe(-ESTALE);
    tree.forget(tree.root, 100);
    expect(tree.getAttributes(tree.root)).toBe(0);
  });

  it("finds everything again after a restore, but what is gone", async () => {
    mkdirSync(join(inside, "d"));
    writeFileSync(join(inside, "d", "f"), "content");
    writeFileSync(join(inside, "gone"), "");
    const node = find("d", "f");
    const gone = find("gone");
    const handle = tree.open(node, O_RDWR);
    const directory = tree.openDirectory(find("d"));
    const state = JSON.parse(JSON.stringify(tree.save())) as unknown;
    await tree.closeTree();
    rmSync(join(inside, "gone"));
    tree = open();
    tree.restore(state);
    expect([content(node), content(gone)]).toEqual(["content", -ESTALE]);
    expect(tree.write(handle, 0, [bytes("C")])).toBe(1);
    expect(readFileSync(join(inside, "d", "f"), "utf8")).toBe("Content");
    expect(listing(directory).sort()).toEqual([".", "..", "f"]);
    expect(find("d", "f")).toBe(node);
    expect(() => {
      tree.restore({ version: 2 });
    }).toThrow(/version 2, expected 1/);
  });

  it("walks nowhere else for a snapshot that somebody has written", () => {
    for (const path of [
      "../secret",
      "..",
      ".",
      "",
      "d/../../secret",
      "/etc/passwd",
      "d//f",
      "f/",
      "secret\0",
    ]) {
      mkdirSync(join(inside, "d"), { recursive: true });
      writeFileSync(join(inside, "f"), "");
      tree.restore({ version: 1, nodes: [{ id: 2, found: 1, path, type: 0o100000 }], handles: [] });
      expect([path, tree.getAttributes(2), tree.open(2, O_RDONLY)]).toEqual([path, -ESTALE, -ESTALE]);
    }
    const node = (id: number): object => ({ id, found: 1, path: "f", type: 0o100000 });
    expect(() => {
      tree.restore({ version: 1, nodes: [node(1)], handles: [] });
    }).toThrow(/node 1, expected/);
    expect(() => {
      tree.restore({ version: 1, nodes: [node(2), node(2)], handles: [] });
    }).toThrow(/node 2, expected each once/);
  });

  it("opens for a snapshot what it would open for the guest", async () => {
    tree.forget(tree.makeNode(tree.root, bytes("pipe"), 0o010644, me), 1);
    writeFileSync(join(inside, "f"), "f");
    const nodes = [
      { id: 2, found: 1, path: "pipe", type: 0o010000 },
      { id: 3, found: 1, path: "f", type: 0o100000 },
    ];
    const handle = (id: number, node: number, flags: number): object => ({ id, node, flags });
    tree.restore({ version: 1, nodes, handles: [handle(1, 2, O_RDWR), handle(2, 3, O_RDWR)] });
    expect([tree.write(1, 0, [bytes("x")]), tree.write(2, 0, [bytes("x")])]).toEqual([-ESTALE, 1]);
    await tree.closeTree();
    tree = open({ readOnly: true });
    tree.restore({ version: 1, nodes, handles: [handle(1, 3, O_RDWR), handle(2, 3, O_RDONLY | O_TRUNC)] });
    expect(tree.write(1, 0, [bytes("y")])).toBe(-ESTALE);
    expect(tree.write(2, 0, [bytes("y")])).toBeLessThan(0);
    expect(readFileSync(join(inside, "f"), "utf8")).toBe("x");
  });

  it("finds a file again whose name ends as those of deleted ones are shown", async () => {
    writeFileSync(join(inside, "notes (deleted)"), "here");
    writeFileSync(join(inside, "gone (deleted)"), "");
    writeFileSync(join(inside, "one"), "");
    const nodes = [find("notes (deleted)"), find("gone (deleted)"), find("one")];
    rmSync(join(inside, "gone (deleted)"));
    linkSync(join(inside, "one"), join(inside, "other"));
    rmSync(join(inside, "one"));
    const state = JSON.parse(JSON.stringify(tree.save())) as unknown;
    await tree.closeTree();
    tree = open();
    tree.restore(state);
    expect(nodes.map(content)).toEqual(["here", -ESTALE, -ESTALE]);
  });

  it("writes and reads nothing at positions that no number holds", () => {
    const handle = tree.create(tree.root, bytes("f"), O_RDWR, 0o644, me);
    tree.write(handle, 0, [bytes("data")]);
    const into = new Uint8Array(4);
    for (const offset of [2 ** 53 - 1, 2 ** 53, 2 ** 60, 2 ** 63, 2 ** 64]) {
      expect([tree.write(handle, offset, [bytes("XXXX")]), tree.read(handle, offset, [into])]).toEqual([
        -EFBIG,
        0,
      ]);
    }
    tree.close(handle);
    expect(content(find("f"))).toBe("data");
  });

  it.skipIf(me.uid === 0 && !isMainThread)(
    "lets a file's maker write to it whatever its permissions (needs a process for root, a thread for others)",
    () => {
      if (me.uid === 0) chownSync(inside, NOBODY, NOBODY);
      if (me.uid === 0) chmodSync(around, 0o711);
      if (me.uid === 0) process.seteuid?.(NOBODY);
      try {
        const own = open();
        const handle = own.create(own.root, bytes("object"), O_RDWR | O_EXCL, 0o444, me);
        expect(own.write(handle, 0, [bytes("blob")])).toBe(4);
        expect(lstatSync(join(inside, "object")).mode & 0o7777).toBe(0o444);
        expect(own.open(own.createdNode, O_RDWR)).toBe(-EACCES);
        const state = own.save();
        const restored = open();
        restored.restore(state);
        expect(restored.write(handle, 4, [bytes("tree")])).toBe(4);
        expect(lstatSync(join(inside, "object"))).toMatchObject({ size: 8, mode: 0o100444 });
        expect(restored.open(own.createdNode, O_RDWR)).toBe(-EACCES);
        for (const each of [own, restored]) void each.closeTree();
      } finally {
        if (me.uid === 0) process.seteuid?.(0);
      }
    },
  );

  it("leaves descriptors to the rest of the process, and memory for few listings", () => {
    const small = open({ mostFds: 4 * (openFds() + 40) });
    const found: number[] = [];
    for (let i = 0; found.every((node) => node > 0); i++) {
      mkdirSync(join(inside, `d${i}`));
      found.push(small.lookup(small.root, bytes(`d${i}`)));
      expect(i).toBeLessThan(1000);
    }
    expect(found.at(-1)).toBe(-ENFILE);
    expect(found.length).toBeGreaterThan(100);
    expect(small.create(small.root, bytes("f"), O_RDWR, 0o644, me)).toBe(-ENFILE);
    expect(small.openDirectory(found[0]!)).toBe(-ENFILE);
    for (const node of found.splice(50)) if (node > 0) small.forget(node, 1);
    const open40 = found.slice(0, 40).map((node) => small.openDirectory(node));
    const names = (handle: number): string[] => {
      expect(small.entryAt(handle, 0, 0)).toBe(1);
      const { nextLow, nextHigh, name } = small.entry;
      const first = String(text(name.slice()));
      for (const other of open40) expect(small.entryAt(other, 0, 0)).toBe(1);
      expect(small.entryAt(handle, nextLow, nextHigh)).toBe(1);
      return [first, String(text(small.entry.name))].sort();
    };
    for (const handle of open40.slice(0, 4)) expect(names(handle)).toEqual([".", ".."]);
    void small.closeTree();
  });

  it.skipIf(me.uid === 0)("may do what this process may, and no more (needs a user who is not root)", () => {
    writeFileSync(join(inside, "f"), "f");
    chmodSync(join(inside, "f"), 0);
    expect(tree.open(find("f"), O_RDONLY)).toBe(-EACCES);
  });

  it.runIf(me.uid === 0)(
    "gives files to the guest's user, in setgid directories to the group (needs root)",
    () => {
      mkdirSync(join(inside, "d"));
      chmodSync(join(inside, "d"), 0o2777);
      const owner = { uid: 12, gid: 34 };
      tree.makeNode(tree.root, bytes("f"), 0o104755, owner);
      tree.makeNode(find("d"), bytes("g"), 0o100600, owner);
      expect(lstatSync(join(inside, "f"))).toMatchObject({ ...owner, mode: 0o104755 });
      expect(lstatSync(join(inside, "d", "g"))).toMatchObject({ uid: 12, gid: 0 });
    },
  );
});
