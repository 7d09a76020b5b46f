//go:build !linux

package main

import (
	"errors"
	"os"
)

// hideInput is for Linux terminals; elsewhere the password is shown as typed.
func hideInput(*os.File) (restore func(), err error) {
	return nil, errors.ErrUnsupported
}
