#!/bin/sh
# The thermometer's registers by the names that Linux's hwmon gives such values (Documentation/hwmon/sysfs-interface.rst):
# `hwmon.sh temp1_input` reads, `hwmon.sh temp1_max 25000` writes.
case $1 in
  temp1_enable) offset=0 ;;
  temp1_max_alarm) offset=4 ;;
  temp1_input) offset=8 ;;
  temp1_max) offset=12 ;;
  *) echo "hwmon.sh: no value $1" >&2; exit 1 ;;
esac
address=$((0xfe800000 + offset))
if [ $# -gt 1 ]; then devmem $address 32 "$2"; else echo $(($(devmem $address 32))); fi
