package demo

import "syscall"

// attributes put a child into a process group of its own, so that a Ctrl-C at the
// terminal reaches the demo alone and the children end in the right order; and
// they let it end when the demo is killed.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}
