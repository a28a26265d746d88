//go:build !linux

package demo

import "syscall"

// attributes put a child into a process group of its own, so that a Ctrl-C at the
// terminal reaches the demo alone and the children end in the right order.
func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
