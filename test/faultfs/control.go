package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// serve answers commands until their end.
func (d *disk) serve(in io.Reader, out io.Writer) error {
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		if len(words) == 0 {
			continue
		}
		answer, err := d.do(words[0], words[1:])
		if err != nil {
			answer = "error " + strings.ReplaceAll(err.Error(), "\n", "; ")
		} else {
			answer = strings.TrimSpace("ok " + answer)
		}
		if _, err := fmt.Fprintln(out, answer); err != nil {
			return err
		}
	}
	return lines.Err()
}

// errWords: a command has too few words, or too many.
var errWords = errors.New("see the package's documentation for what this command takes")

// do performs one command.
func (d *disk) do(command string, args []string) (string, error) {
	if command == "crash" {
		if len(args) != 1 {
			return "", errWords
		}
		if args[0] == "all" {
			return "", d.crash(nil)
		}
		seed, err := strconv.ParseUint(args[0], 10, 64)
		if err != nil {
			return "", err
		}
		return "", d.crash(newChance(seed))
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	switch command {
	case "count":
		return strconv.FormatInt(d.count, 10), nil
	case "stopped":
		return strconv.FormatBool(d.faults.still), nil
	}
	if err := d.faults.set(command, args, d.count); err != nil {
		return "", err
	}
	close(d.changed)
	d.changed = make(chan struct{})
	return "", nil
}

// set changes the faults; count is that of operations so far.
func (f *faults) set(command string, args []string, count int64) error {
	args = append(args, "", "", "", "")
	switch command {
	case "release":
		*f = faults{}
		return nil
	case "delay":
		return f.setDelay(args[0], args[1])
	case "hang", "hang-hard":
		on, err := parseKinds(args[0])
		f.hangs = append(f.hangs, fault{kinds: on, below: args[1], hard: command == "hang-hard"})
		return err
	case "fail":
		return f.setFail(args)
	case "space":
		return f.setSpace(args[0])
	case "stop":
		n, err := strconv.ParseInt(args[0], 10, 64)
		if err != nil || n < 1 {
			return fmt.Errorf("stop %q: give a number from 1", args[0])
		}
		f.stopAt, f.still = count+n, false
		return nil
	}
	return fmt.Errorf("unknown command %q: %w", command, errWords)
}

func (f *faults) setDelay(of, by string) error {
	on, err := parseKinds(of)
	if err != nil {
		return err
	}
	d, err := time.ParseDuration(by)
	if err != nil {
		return err
	}
	for k := range on {
		if on[k] {
			f.delays[k] = d
		}
	}
	return nil
}

func (f *faults) setFail(args []string) error {
	on, err := parseKinds(args[0])
	if err != nil {
		return err
	}
	fail := fault{kinds: on, below: args[3], errno: errnoNamed(args[1]), left: -1}
	if fail.errno == 0 {
		return fmt.Errorf("fail: no error is called %q", args[1])
	}
	if args[2] != "" {
		n, err := strconv.Atoi(args[2])
		if err != nil {
			return err
		}
		if n > 0 {
			fail.left = n
		}
	}
	f.fails = append(f.fails, fail)
	return nil
}

func (f *faults) setSpace(bytes string) error {
	if bytes == "off" {
		f.space = nil
		return nil
	}
	n, err := strconv.ParseInt(bytes, 10, 64)
	if err != nil || n < 0 {
		return fmt.Errorf("space %q: give a number of bytes, or off", bytes)
	}
	f.space = &n
	return nil
}

func parseKinds(word string) (on [kinds]bool, err error) {
	switch word {
	case "write":
		on[kindWrite] = true
	case "sync":
		on[kindSync] = true
	case "name":
		on[kindName] = true
	case "all":
		on = [kinds]bool{true, true, true}
	default:
		err = fmt.Errorf("%q is none of write, sync, name, all", word)
	}
	return on, err
}

// errnoNamed is the number of an error by its name in C; 0 for none.
func errnoNamed(name string) syscall.Errno {
	for n := syscall.Errno(1); n < 134; n++ {
		if unix.ErrnoName(n) == name {
			return n
		}
	}
	return 0
}
