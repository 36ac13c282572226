/** What compiling does to a tree: many small files made, renamed, linked, rewritten, looked at and removed. */
export const fileStorm = (directories = "a b c d e f g h"): string => `
umask 022
for d in ${directories}; do
  mkdir -p src/$d obj/$d
  for i in 1 2 3 4 5 6 7 8 9 10 11 12; do
    seq $i 40 > src/$d/f$i.c
    seq $((i * 3)) 90 > obj/$d/f$i.o.tmp
    mv obj/$d/f$i.o.tmp obj/$d/f$i.o
  done
  cat obj/$d/*.o > lib$d.a
  ln -s ../lib$d.a src/$d/lib.a
  ln lib$d.a lib$d.a.1
  chmod 750 src/$d; chmod 400 obj/$d/f1.o
  rm obj/$d/f2.o obj/$d/f3.o
  touch -d '2001-02-03 04:05:06' src/$d/f1.c
  for i in 4 5 6; do echo more >> src/$d/f$i.c; done
  for i in 7 8; do truncate -s 17 src/$d/f$i.c; done
done
mv src/$d obj/moved
mkdir -p deep/er/and/deeper; mv deep/er deep/est; rmdir deep/est/and/deeper
mkfifo pipe
`;
/** Everything about a tree that both busybox and coreutils tell the same way. */
export const LOOK = `
find . | sort
find . -type f | sort | xargs sha256sum
find . -type l | sort | while read l; do echo $l $(readlink $l); done
find . | sort | xargs stat -c '%n %a %h %F %Y' | grep -v -E ' (directory|symbolic link|fifo) ' | grep f1.c
find . | sort | xargs stat -c '%n %a %h' | grep -v -E '^(\\.|\\./deep|\\./obj|\\./src)? '
find . -type f | sort | xargs stat -c '%n %s'
`;
