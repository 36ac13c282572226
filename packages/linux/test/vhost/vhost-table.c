/* Prints what linux/vhost.h says, as vhost-table.json has it recorded. */
#include <linux/vhost.h>
#include <stdio.h>
#include <string.h>

#define NUMBER(name) printf("  \"%s\": %lu,\n", #name, (unsigned long)(name))

static void bytes(const char *name, const void *data, unsigned long length, const char *end) {
  printf("  \"%s\": \"", name);
  for (unsigned long i = 0; i < length; i++) printf("%02x", ((const unsigned char *)data)[i]);
  printf("\"%s\n", end);
}

int main(void) {
  printf("{\n");
  NUMBER(VHOST_GET_FEATURES);
  NUMBER(VHOST_SET_FEATURES);
  NUMBER(VHOST_SET_OWNER);
  NUMBER(VHOST_RESET_OWNER);
  NUMBER(VHOST_SET_MEM_TABLE);
  NUMBER(VHOST_SET_VRING_NUM);
  NUMBER(VHOST_SET_VRING_ADDR);
  NUMBER(VHOST_SET_VRING_BASE);
  NUMBER(VHOST_GET_VRING_BASE);
  NUMBER(VHOST_SET_VRING_KICK);
  NUMBER(VHOST_SET_VRING_CALL);
  NUMBER(VHOST_SET_VRING_ERR);
  NUMBER(VHOST_NET_SET_BACKEND);
  struct {
    struct vhost_memory head;
    struct vhost_memory_region regions[2];
  } memory = {{.nregions = 2},
              {{.guest_phys_addr = 0, .memory_size = 0xc0000000, .userspace_addr = 0x7f1234560000},
               {.guest_phys_addr = 0x100000000, .memory_size = 0x40000000, .userspace_addr = 0x7f0000001000}}};
  bytes("vhost_memory", &memory, sizeof memory, ",");
  struct vhost_vring_addr address;
  memset(&address, 0, sizeof address);
  address.index = 1;
  address.desc_user_addr = 0x7f1234561000;
  address.avail_user_addr = 0x7f1234562000;
  address.used_user_addr = 0x7f1234563000;
  bytes("vhost_vring_addr", &address, sizeof address, ",");
  struct vhost_vring_state state = {.index = 1, .num = 256};
  bytes("vhost_vring_state", &state, sizeof state, ",");
  struct vhost_vring_file file = {.index = 1, .fd = -1};
  bytes("vhost_vring_file", &file, sizeof file, "");
  printf("}\n");
  return 0;
}
