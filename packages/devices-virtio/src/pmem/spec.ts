/** Persistent memory device. Names and numbers: virtio 1.3 §5.19. */

/** struct virtio_pmem_config (§5.19.4). */
export const Config = { START: 0, SIZE: 8, LENGTH: 16 } as const;
/** struct virtio_pmem_req and virtio_pmem_resp (§5.19.6). */
export const Request = { TYPE: 0, LENGTH: 4, FLUSH: 0 } as const;
export const Response = { RET: 0, LENGTH: 4, OK: 0, FAILED: 0xffff_ffff } as const;
