package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"maps"

	"go.yaml.in/yaml/v3"
)

// maxConfigFile bounds --config-file, in bytes; etcd's own sample has 6 KiB.
const maxConfigFile = 1 << 20

// fileSections are the parts of a configuration file with an inner level, and
// what each inner key is as a flag.
var fileSections = map[string]map[string]string{
	"client-transport-security": {
		"cert-file": "cert-file", "key-file": "key-file",
		"client-cert-file": "client-cert-file", "client-key-file": "client-key-file",
		"client-cert-auth": "client-cert-auth", "trusted-ca-file": "trusted-ca-file",
		"auto-tls": "auto-tls", "allowed-hostname": "client-cert-allowed-hostname",
	},
	"peer-transport-security": {
		"cert-file": "peer-cert-file", "key-file": "peer-key-file",
		"client-cert-file": "peer-client-cert-file", "client-key-file": "peer-client-key-file",
		"client-cert-auth": "peer-client-cert-auth", "trusted-ca-file": "peer-trusted-ca-file",
		"auto-tls": "peer-auto-tls", "allowed-cn": "peer-cert-allowed-cn",
		"allowed-hostname": "peer-cert-allowed-hostname", "skip-client-san-verification": "peer-skip-client-san-verification",
	},
	"socket-options": {"reuse-port": "socket-reuse-port", "reuse-address": "socket-reuse-address"},
}

// fileIgnores are keys that etcd's own sample file still has, and etcd 3.7 itself
// reads no more: they chose what the proxy that it removed did.
var fileIgnores = []string{"discovery-fallback"}

// readFile applies a configuration file, YAML or JSON, whose keys are flag
// names. As in etcd a key nobody knows is ignored, with a warning here; a key
// of etcd that conclave does not honour is refused like the flag.
func (s *serverSettings) readFile(path string) error {
	data, err := readBounded(path)
	if err != nil {
		return fmt.Errorf("--config-file: %w", err)
	}
	var keys map[string]any
	if err := yaml.Unmarshal(data, &keys); err != nil {
		return fmt.Errorf("--config-file %s: %s", path, strings.Join(strings.Fields(err.Error()), " "))
	}
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		if err := s.setKey(path, key, keys[key]); err != nil {
			return fmt.Errorf("--config-file %s: %s: %w", path, key, err)
		}
	}
	return nil
}

func readBounded(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxConfigFile {
		return nil, fmt.Errorf("%s has %d bytes; a configuration file has at most %d", path, info.Size(), maxConfigFile)
	}
	return os.ReadFile(path)
}

func (s *serverSettings) setKey(path, key string, value any) error {
	if section, ok := fileSections[key]; ok {
		return s.setSection(path, key, section, value)
	}
	flag, ok := serverFlagNamed(key)
	if !ok || key == "config-file" || key == "version" || slices.Contains(fileIgnores, key) {
		s.warnings = append(s.warnings, fmt.Sprintf("%s: ignoring unknown key %s%s", path, key, didYouMean(key, "", serverFlagNames())))
		return nil
	}
	return s.setText(flag, value)
}

func (s *serverSettings) setSection(path, name string, section map[string]string, value any) error {
	if value == nil {
		return nil
	}
	keys, ok := value.(map[string]any)
	if !ok {
		return errors.New("must hold keys such as cert-file, indented below it")
	}
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		flagName, ok := section[key]
		if !ok {
			s.warnings = append(s.warnings, fmt.Sprintf("%s: ignoring unknown key %s in %s%s", path, key, name,
				didYouMean(key, "", slices.Collect(maps.Keys(section)))))
			continue
		}
		flag, _ := serverFlagNamed(flagName)
		if err := s.setText(flag, keys[key]); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
	}
	return nil
}

// setText applies a value of the file. Null and an empty string leave the
// default alone, as in etcd.
func (s *serverSettings) setText(flag serverFlag, value any) error {
	text, err := yamlText(value)
	if err != nil || text == "" {
		return err
	}
	if _, isInt := value.(int); isInt && flag.duration {
		text += "ns" // etcd's files write durations as whole nanoseconds
	}
	return s.set(flag, text)
}

// yamlText writes a scalar, or a list of scalars joined by commas, as a flag
// would have it.
func yamlText(value any) (string, error) {
	switch v := value.(type) {
	case nil:
		return "", nil
	case string:
		return v, nil
	case bool, int, int64, uint64, float64:
		return fmt.Sprint(v), nil
	case []any:
		parts := make([]string, len(v))
		for i := range v {
			var err error
			if parts[i], err = yamlText(v[i]); err != nil {
				return "", err
			}
		}
		return strings.Join(parts, ","), nil
	}
	return "", fmt.Errorf("must be one value or a list of values, not %T", value)
}
