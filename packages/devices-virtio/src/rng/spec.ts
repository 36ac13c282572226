/** Entropy device: virtio 1.3 §5.4. It has no features and no configuration space. */

export const REQUEST_QUEUE = 0;
/** Bytes one request gets at most, whatever it has room for. */
export const MAX_BYTES = 65_536;
