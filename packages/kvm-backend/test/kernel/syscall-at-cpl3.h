/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * KVM without VT-x and SVM runs a guest's programs natively, and its kernel in an emulator. SYSCALL then gets to the
 * kernel's entry with the privileges of the program: fetching there is a page fault, from which this makes the call.
 */
#include <asm/proto.h>
#include <asm/syscall.h>
#include <asm/unistd.h>

static bool is_syscall_at_cpl3(const struct pt_regs *regs, unsigned long address)
{
	return user_mode(regs) && address == (unsigned long)entry_SYSCALL_64 && regs->ip == address;
}

/* SYSCALL left the address to return to in RCX, and RFLAGS in R11 (Intel SDM 2B, SYSCALL). */
static void syscall_at_cpl3(struct pt_regs *regs)
{
	const unsigned long number = regs->ax;

	regs->ip = regs->cx;
	regs->flags = (regs->r11 & ~(X86_EFLAGS_TF | X86_EFLAGS_RF)) | X86_EFLAGS_IF;
	regs->orig_ax = number;
	regs->ax = -ENOSYS;
	local_irq_enable();
	if (number < NR_syscalls)
		regs->ax = sys_call_table[number](regs);
	local_irq_disable();
}
