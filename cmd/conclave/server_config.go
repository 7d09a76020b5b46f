package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/conclave-kv/conclave/daemon"
)

// serverPrefixes are the prefixes of environment variables that set server
// flags, the preferred first.
var serverPrefixes = []string{"CONCLAVE_", "ETCD_"}

// serverExempt are variables with such a prefix that no flag belongs to:
// switches etcd reads elsewhere.
var serverExempt = []string{"ETCD_UNSUPPORTED_ARCH", "ETCD_VERIFY"}

// serverSettings is a Config on its way from words to values, with what to
// say about the words once there is a log.
type serverSettings struct {
	cfg      daemon.Config
	given    map[string]bool // flags set by any means
	warnings []string
	// meaningless are the flags given that change nothing.
	meaningless []string
}

// newServerSettings reads flags and environment, or the configuration file if
// one is named. environ is os.Environ's list.
func newServerSettings(flags []givenFlag, environ []string) (*serverSettings, error) {
	s := &serverSettings{cfg: daemon.NewConfig(), given: map[string]bool{}}
	if err := s.read(flags, environ); err != nil {
		return nil, err
	}
	if len(s.meaningless) > 0 {
		s.warnings = append(s.warnings, meaninglessWarning(s.meaningless))
	}
	return s, nil
}

func (s *serverSettings) read(flags []givenFlag, environ []string) error {
	file, err := configFile(flags, environ)
	if err != nil {
		return err
	}
	if file != "" {
		s.warnings = append(s.warnings, "loaded server configuration from "+file+
			"; other command line flags and environment variables will be ignored if provided")
		return s.readFile(file)
	}
	for _, f := range flags {
		flag, _ := serverFlagNamed(f.name)
		if err := s.set(flag, f.value); err != nil {
			return flagError(flag, f.value, err)
		}
	}
	return s.readEnv(environ)
}

// set applies one value. --version and --config-file, which have no setter,
// were dealt with before.
func (s *serverSettings) set(flag serverFlag, value string) error {
	s.given[flag.name] = true
	if flag.set == nil {
		return nil
	}
	if err := flag.set(&s.cfg, value); err != nil {
		return err
	}
	if flag.meaningless && value != "" {
		s.meaningless = append(s.meaningless, flag.name)
	}
	return nil
}

// flagError words what is wrong with a value given as a flag, as Go's flag
// package does for etcd.
func flagError(flag serverFlag, value string, err error) error {
	if ns, ok := errors.AsType[*notSupported](err); ok {
		return ns
	}
	if flag.boolean {
		return failf(exitUsage, "invalid boolean value %q for flag -%s: %w", value, flag.name, err)
	}
	return failf(exitUsage, "invalid value %q for flag -%s: %w", daemon.HideUsers(value), flag.name, err)
}

// configFile returns the file named by --config-file or the environment.
func configFile(flags []givenFlag, environ []string) (string, error) {
	for _, f := range slices.Backward(flags) {
		if f.name == "config-file" {
			return f.value, nil
		}
	}
	value, _, err := lookupEnv(environ, "config-file")
	return value, err
}

// lookupEnv returns the value of a flag's variable and the variable's name. An
// empty value is no value. The two spellings must not contradict each other.
func lookupEnv(environ []string, flag string) (value, key string, err error) {
	for _, prefix := range serverPrefixes {
		k := variable(prefix, flag)
		v, ok := getenv(environ, k)
		switch {
		case !ok || v == "" || v == value:
		case value != "":
			return "", "", fmt.Errorf("%s=%q and %s=%q contradict each other: unset one of them", key, value, k, v)
		default:
			value, key = v, k
		}
	}
	return value, key, nil
}

// getenv finds a variable in a list of KEY=VALUE; the last one counts.
func getenv(environ []string, key string) (string, bool) {
	for _, kv := range slices.Backward(environ) {
		if v, ok := strings.CutPrefix(kv, key+"="); ok {
			return v, true
		}
	}
	return "", false
}

// readEnv applies the environment to what the flags left alone.
func (s *serverSettings) readEnv(environ []string) error {
	for _, name := range allServerFlags() {
		value, key, err := lookupEnv(environ, name)
		if err != nil {
			return err
		}
		if value == "" || name == "version" {
			continue
		}
		if s.given[name] {
			return fmt.Errorf("conflicting environment variable is shadowed by corresponding command-line flag (either unset environment variable or disable flag)): %s and --%s", key, name)
		}
		flag, _ := serverFlagNamed(name)
		if err := s.set(flag, value); err != nil {
			if ns, ok := errors.AsType[*notSupported](err); ok {
				return fmt.Errorf("%s: %w", key, ns)
			}
			return fmt.Errorf("invalid value %q for %s: %w", daemon.HideUsers(value), key, err)
		}
	}
	s.warnUnknown(environ)
	return nil
}

// warnUnknown notes variables that look like a server flag's but are none.
func (s *serverSettings) warnUnknown(environ []string) {
	known := slices.Clone(serverExempt)
	for _, name := range allServerFlags() {
		for _, prefix := range serverPrefixes {
			known = append(known, variable(prefix, name))
		}
	}
	for _, f := range globalFlags() {
		known = append(known, variable("CONCLAVE_", f.Names()[0]))
	}
	for _, kv := range environ {
		key, _, _ := strings.Cut(kv, "=")
		server := strings.HasPrefix(key, "ETCD_") || strings.HasPrefix(key, "CONCLAVE_")
		if server && !slices.Contains(known, key) {
			s.warnings = append(s.warnings, "unrecognized environment variable "+key+didYouMean(key, "", known))
		}
	}
}

// allServerFlags names every flag of the server form.
func allServerFlags() []string {
	out := serverFlagNames()
	for _, r := range refusedFlags {
		out = append(out, r.name)
	}
	for _, name := range experimentalFlags {
		out = append(out, experimentalPrefix+name)
	}
	return append(out, ignoredFlags...)
}

// useDefaultSecret turns the CA on where an administrator has put the secret
// in its usual place, unless this start says something else about TLS.
func (s *serverSettings) useDefaultSecret(path string) {
	if s.given["cluster-secret-file"] || s.cfg.ClientTLS.Given() || s.cfg.PeerTLS.Given() {
		return
	}
	// A secret that cannot be read is told, not taken for none.
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		s.cfg.ClusterSecretFile = path
	}
}
