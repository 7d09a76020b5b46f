//go:build !linux

package main

import "syscall"

// dieWithParent has no kernel help elsewhere; CPU times need Linux's /proc
// anyway.
func dieWithParent() *syscall.SysProcAttr { return nil }
