package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/urfave/cli/v2"
)

// askPassword reads one line: from a terminal without showing what is typed,
// from anything else as it comes.
func askPassword(c *cli.Context) (string, error) {
	if f, ok := c.App.Reader.(*os.File); ok {
		fmt.Fprint(c.App.ErrWriter, "Password: ")
		restore, err := hideInput(f)
		if err == nil {
			defer func() {
				restore()
				fmt.Fprintln(c.App.ErrWriter)
			}()
		}
	}
	line, err := bufio.NewReader(c.App.Reader).ReadString('\n')
	line = strings.TrimRight(line, "\r\n")
	if err != nil && line == "" {
		return "", errors.New("no password given: type it, or set ETCDCTL_PASSWORD")
	}
	return line, nil
}
