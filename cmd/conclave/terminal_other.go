//go:build !linux

package main

import (
	"os"
	"syscall"
)

// terminal is never lent to a command here.
type terminal struct{}

func ownTerminal() *terminal { return nil }

func (t *terminal) lend(*syscall.SysProcAttr) {}

func (t *terminal) watch() (<-chan os.Signal, func()) { return nil, func() {} }

func (t *terminal) follow(int) {}

func (t *terminal) takeBack() {}
