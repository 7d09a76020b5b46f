package daemon

import (
	"crypto/tls"
	"fmt"
	"os"
	"strings"
)

// TLSFiles are the certificates and rules of one port when they are one's own
// and not of conclave's CA. The zero value means none.
type TLSFiles struct {
	// CertFile and KeyFile identify this process, as a server and, unless
	// ClientCertFile and ClientKeyFile are given, towards other members.
	CertFile, KeyFile             string
	ClientCertFile, ClientKeyFile string
	// TrustedCAFile verifies the other side; giving it or ClientCertAuth
	// makes a client certificate compulsory.
	TrustedCAFile  string
	ClientCertAuth bool
	// CRLFile is a revocation list (DER).
	CRLFile string
	// AllowedCNs (peers only) and AllowedHostnames restrict client
	// certificates further; at most one of the two is given.
	AllowedCNs, AllowedHostnames []string
	// SkipClientSANVerify (peers only) does not compare a peer's address with
	// its certificate.
	SkipClientSANVerify bool
}

// Given reports whether anything was asked for that conclave's own CA would
// override. ClientCertAuth is not: with the CA it is always on.
func (t TLSFiles) Given() bool {
	return t.CertFile != "" || t.KeyFile != "" || t.ClientCertFile != "" || t.ClientKeyFile != "" ||
		t.TrustedCAFile != "" || t.CRLFile != "" ||
		len(t.AllowedCNs) > 0 || len(t.AllowedHostnames) > 0 || t.SkipClientSANVerify
}

// scheme returns the scheme of URLs that were not given.
func (t TLSFiles) scheme(secret string) string {
	if secret != "" || t.CertFile != "" {
		return "https"
	}
	return "http"
}

// validate checks one port's files; prefix is "" for the client port, "peer-"
// for the peer port.
func (t TLSFiles) validate(prefix string) error {
	pairs := []struct{ certFlag, cert, keyFlag, key string }{
		{prefix + "cert-file", t.CertFile, prefix + "key-file", t.KeyFile},
		{prefix + "client-cert-file", t.ClientCertFile, prefix + "client-key-file", t.ClientKeyFile},
	}
	for _, p := range pairs {
		switch {
		case p.cert != "" && p.key == "":
			return fmt.Errorf("--%s %q has no key: add --%s", p.certFlag, p.cert, p.keyFlag)
		case p.cert == "" && p.key != "":
			return fmt.Errorf("--%s %q has no certificate: add --%s", p.keyFlag, p.key, p.certFlag)
		}
	}
	if len(t.AllowedCNs) > 0 && len(t.AllowedHostnames) > 0 {
		return fmt.Errorf("--%scert-allowed-cn and --%scert-allowed-hostname are mutually exclusive: keep one", prefix, prefix)
	}
	if t.TrustedCAFile == "" {
		flag := ""
		switch {
		case t.ClientCertAuth:
			flag = prefix + "client-cert-auth"
		case t.CRLFile != "":
			flag = crlFlag(prefix)
		case len(t.AllowedCNs) > 0:
			flag = prefix + "cert-allowed-cn"
		case len(t.AllowedHostnames) > 0:
			flag = hostnameFlag(prefix)
		}
		if flag != "" {
			return fmt.Errorf("--%s needs an authority to verify certificates with: add --%strusted-ca-file", flag, prefix)
		}
	}
	for _, f := range []struct{ flag, path string }{
		{prefix + "cert-file", t.CertFile}, {prefix + "key-file", t.KeyFile},
		{prefix + "client-cert-file", t.ClientCertFile}, {prefix + "client-key-file", t.ClientKeyFile},
		{prefix + "trusted-ca-file", t.TrustedCAFile}, {crlFlag(prefix), t.CRLFile},
	} {
		if err := checkReadable(f.flag, f.path); err != nil {
			return err
		}
	}
	return nil
}

// crlFlag is a name that does not follow the prefix rule.
func crlFlag(prefix string) string {
	if prefix == "" {
		return "client-crl-file"
	}
	return "peer-crl-file"
}

// hostnameFlag is another.
func hostnameFlag(prefix string) string {
	if prefix == "" {
		return "client-cert-allowed-hostname"
	}
	return "peer-cert-allowed-hostname"
}

// checkReadable opens and closes a named file, so that a wrong path is told by
// flag before anything is started.
func checkReadable(flag, path string) error {
	if path == "" {
		return nil
	}
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("--%s: %w; give the path of a file this user may read", flag, err)
	}
	return f.Close()
}

// validateTLSVersions checks the TLS range and the suites together.
func (c Config) validateTLSVersions() error {
	lo, err := tlsVersion("tls-min-version", c.TLSMinVersion)
	if err != nil {
		return err
	}
	hi, err := tlsVersion("tls-max-version", c.TLSMaxVersion)
	if err != nil {
		return err
	}
	if hi != 0 && lo > hi {
		return fmt.Errorf("min version (%s) is greater than max version (%s): lower --tls-min-version or raise --tls-max-version", c.TLSMinVersion, c.TLSMaxVersion)
	}
	if lo == tls.VersionTLS13 && len(c.CipherSuites) > 0 {
		return fmt.Errorf("--cipher-suites: cipher suites cannot be configured when only TLS1.3 is enabled; remove it or set --tls-min-version TLS1.2")
	}
	_, err = c.CipherSuiteIDs()
	return err
}

// TLSVersions returns the bounds of the TLS version; a maximum of 0 leaves it
// to Go. The values must have passed Validate.
func (c Config) TLSVersions() (lowest, highest uint16) {
	lo, _ := tlsVersion("tls-min-version", c.TLSMinVersion)
	hi, _ := tlsVersion("tls-max-version", c.TLSMaxVersion)
	return max(lo, tls.VersionTLS12), hi
}

func tlsVersion(flag, s string) (uint16, error) {
	switch s {
	case "":
		return 0, nil
	case "TLS1.2":
		return tls.VersionTLS12, nil
	case "TLS1.3":
		return tls.VersionTLS13, nil
	}
	return 0, fmt.Errorf("--%s: unexpected TLS version %q (must be one of: TLS1.2, TLS1.3)", flag, s)
}

// CipherSuiteIDs returns the numbers of CipherSuites; nil leaves them to Go.
// Suites Go calls insecure are refused, and so are those of TLS 1.3, which Go
// does not let one choose.
func (c Config) CipherSuiteIDs() ([]uint16, error) {
	var ids []uint16
	for _, name := range c.CipherSuites {
		id, err := cipherSuite(name)
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, nil
}

func cipherSuite(name string) (uint16, error) {
	for _, s := range tls.CipherSuites() {
		if !strings.EqualFold(s.Name, name) {
			continue
		}
		if s.SupportedVersions[0] == tls.VersionTLS13 {
			return 0, fmt.Errorf("--cipher-suites: %q belongs to TLS 1.3, whose suites cannot be chosen; remove it", name)
		}
		return s.ID, nil
	}
	for _, s := range tls.InsecureCipherSuites() {
		if strings.EqualFold(s.Name, name) {
			return 0, fmt.Errorf("--cipher-suites: %q is insecure; remove it", name)
		}
	}
	return 0, fmt.Errorf("--cipher-suites: unexpected TLS cipher suite %q; use names such as TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", name)
}
