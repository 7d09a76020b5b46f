package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/urfave/cli/v2"
)

// askPassword reads the password of --user.
func askPassword(c *cli.Context) (string, error) {
	line, err := askSecret(c, "Password: ")
	if err != nil && line == "" {
		return "", errors.New("no password given: type it, or set ETCDCTL_PASSWORD")
	}
	return line, nil
}

// newPassword reads a password for a user: twice, or without --interactive once
// and without a question.
func newPassword(c *cli.Context, user string) (string, error) {
	if !c.Bool("interactive") {
		line, err := readLine(c.App.Reader)
		if err != nil && line == "" {
			return "", errors.New("no password on the standard input")
		}
		return line, nil
	}
	first, err := askSecret(c, fmt.Sprintf("Password of %s: ", user))
	switch {
	case err != nil && first == "":
		return "", fmt.Errorf("failed to ask password: %w", err)
	case first == "":
		return "", errors.New("empty password")
	}
	again, err := askSecret(c, fmt.Sprintf("Type password of %s again for confirmation: ", user))
	switch {
	case err != nil && again == "":
		return "", fmt.Errorf("failed to ask password: %w", err)
	case first != again:
		return "", errors.New("given passwords are different")
	}
	return first, nil
}

// askSecret reads one line: from a terminal without showing what is typed, from
// anything else as it comes. Nobody sees the end of that line, so it ends the
// prompt's.
func askSecret(c *cli.Context, prompt string) (string, error) {
	if f, ok := c.App.Reader.(*os.File); ok {
		if restore, err := hideInput(f); err == nil { // before there is a question to answer
			defer restore()
		}
		fmt.Fprint(c.App.ErrWriter, prompt)
		defer fmt.Fprintln(c.App.ErrWriter)
	}
	return readLine(c.App.Reader)
}

// readLine reads up to the end of a line and not beyond, so that the next call
// finds the next line.
func readLine(r io.Reader) (string, error) {
	var line strings.Builder
	for b := make([]byte, 1); ; {
		n, err := r.Read(b)
		switch {
		case n > 0 && b[0] == '\n':
			return strings.TrimRight(line.String(), "\r"), nil
		case n > 0:
			line.WriteByte(b[0])
		}
		if err != nil {
			return line.String(), err
		}
	}
}
