/** Numbers of errno(3) on Linux that a directory tree answers with by itself. */
export const Errno = {
  EPERM: 1,
  EIO: 5,
  EBADF: 9,
  EACCES: 13,
  EEXIST: 17,
  EISDIR: 21,
  EINVAL: 22,
  ENFILE: 23,
  EFBIG: 27,
  EROFS: 30,
  ENAMETOOLONG: 36,
  ELOOP: 40,
  EOPNOTSUPP: 95,
  ESTALE: 116,
} as const;
