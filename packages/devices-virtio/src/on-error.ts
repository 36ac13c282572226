/** What happens when the host cannot do what a request asks (a full disk, an I/O error). */
export type OnError = "report" | "stop" | "ignore";
