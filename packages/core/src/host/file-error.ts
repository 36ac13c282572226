const REASONS: Readonly<Record<string, string>> = {
  ENOENT: "there is no such file or directory",
  ENOTDIR: "there is no such file or directory",
  EISDIR: "it is a directory",
  EACCES: "permission denied",
  EROFS: "its file system is read-only",
  ENOSPC: "its disk is full",
};

/** Why a file could not be used, in words; the first line of the message of any other error. */
export function fileErrorReason(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const code = "code" in error ? String(error.code) : "";
  return REASONS[code] ?? error.message.split("\n", 1)[0] ?? error.name;
}
