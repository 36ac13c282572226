/** Splits `a=1,b=2`; a doubled comma stands for one in a value, and a name without a value is `on`. */
export function splitOptions(lists: readonly string[]): Map<string, string> {
  const options = new Map<string, string>();
  for (const list of lists) {
    for (const part of list.split(/(?<!,),(?!,)/)) {
      const text = part.replaceAll(",,", ",");
      const equals = text.indexOf("=");
      if (text === "") continue;
      options.set(equals < 0 ? text : text.slice(0, equals), equals < 0 ? "on" : text.slice(equals + 1));
    }
  }
  return options;
}
