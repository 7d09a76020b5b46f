package readme

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// root is the top of the repository, seen from this package.
var root = filepath.Join("..", "..")

// lines are the command lines of README.md that start with conclave, apart by
// whether the text before their block says that they are coming.
func lines(t *testing.T) (now, coming []string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(string(text), "```") // odd ones are code
	for i := 1; i < len(parts); i += 2 {
		for line := range strings.SplitSeq(parts[i], "\n") {
			line = strings.TrimSpace(line)
			if !strings.HasPrefix(line, "conclave ") {
				continue
			}
			if strings.Contains(lastParagraph(parts[i-1]), "(coming;") {
				coming = append(coming, line)
			} else {
				now = append(now, line)
			}
		}
	}
	return now, coming
}

func lastParagraph(text string) string {
	paragraphs := strings.Split(strings.TrimSpace(text), "\n\n")
	return paragraphs[len(paragraphs)-1]
}

// binary is the program, built once for all tests.
var binary string

func TestMain(m *testing.M) {
	os.Exit(buildAndRun(m))
}

func buildAndRun(m *testing.M) int {
	dir, err := os.MkdirTemp("", "conclave-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "conclave")
	cmd := exec.Command("go", "build", "-o", binary, "./cmd/conclave")
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// words are the command words of a line: what is neither a flag nor a flag's
// value. Every flag of the README that takes a value has it as the next word.
func words(line string) (command, flags []string) {
	fields := strings.Fields(line)[1:]
	for i := 0; i < len(fields); i++ {
		if strings.HasPrefix(fields[i], "--") {
			flags = append(flags, fields[i])
			i++
			continue
		}
		command = append(command, fields[i])
	}
	return command, flags
}

func TestReadme_commandsAndFlagsExist(t *testing.T) {
	now, _ := lines(t)
	if len(now) < 5 {
		t.Fatalf("found only %d command lines in README.md: %q", len(now), now)
	}
	for _, line := range now {
		command, flags := words(line)
		out, err := exec.Command(binary, append(command, "--help")...).CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v\n%s", line, err, out)
			continue
		}
		for _, flag := range flags {
			if !regexp.MustCompile(`(?m)(^|[ ,])` + flag + `\s`).Match(out) {
				t.Errorf("%s: the help of %q does not know %s", line, command, flag)
			}
		}
	}
}

func TestReadme_comingCommandsDoNotExist(t *testing.T) {
	_, coming := lines(t)
	for _, line := range coming {
		command, _ := words(line)
		if out, err := exec.Command(binary, append(command, "--help")...).CombinedOutput(); err == nil {
			t.Errorf("%s is there now; README.md still says that it is coming\n%s", line, out)
		}
	}
}
