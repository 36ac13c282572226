/** A file that the guest knows: an O_PATH descriptor of it, whatever becomes of its names. */
export interface TreeNode {
  readonly id: number;
  /** −1: it could not be found again. */
  readonly fd: number;
  /** Device and inode. */
  readonly key: string;
  /** Type bits of `st_mode`. */
  readonly type: number;
  /** How often it has been found and not forgotten. */
  found: number;
}

/** The nodes of a tree by number and by inode. A number means one node only, for as long as it is known. */
export class NodeTable {
  readonly #byId = new Map<number, TreeNode>();
  readonly #byKey = new Map<string, TreeNode>();
  #nextId = 1;

  get nodes(): Iterable<TreeNode> {
    return this.#byId.values();
  }

  get(id: number): TreeNode | undefined {
    return this.#byId.get(id);
  }

  /** The node of an inode. */
  of(key: string): TreeNode | undefined {
    return this.#byKey.get(key);
  }

  add(fd: number, key: string, type: number, id: number = this.#nextId, found = 1): TreeNode {
    const node: TreeNode = { id, fd, key, type, found };
    this.#nextId = Math.max(this.#nextId, id + 1);
    this.#byId.set(id, node);
    if (fd >= 0) this.#byKey.set(key, node);
    return node;
  }

  remove(node: TreeNode): void {
    this.#byId.delete(node.id);
    if (this.#byKey.get(node.key) === node) this.#byKey.delete(node.key);
  }
}
