export { type OpenImageOptions, openImage } from "./chain/open-image.ts";
export type { DiskImage, Extent, ImageFormat } from "./disk-image.ts";
export type { BlockFile } from "./file/block-file.ts";
export { MemoryFile } from "./file/memory-file.ts";
export { NodeFile } from "./file/node-file.ts";
export { ImageError, type ImageFault } from "./image-error.ts";
export { createQcow2, type Qcow2CreateOptions } from "./qcow2/create.ts";
export { Qcow2Image, type Qcow2Options } from "./qcow2/qcow2-image.ts";
export { RawImage } from "./raw/raw-image.ts";
