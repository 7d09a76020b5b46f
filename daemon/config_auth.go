package daemon

import (
	"fmt"
	"time"

	"github.com/conclave-kv/conclave/auth/token"
)

// defaultAuthToken is what AuthToken means where it is empty.
const defaultAuthToken = "simple"

// jwt is how tokens are signed, nil for random ones.
func (c Config) jwt() (*token.JWT, error) {
	value := orDefault(c.AuthToken, defaultAuthToken)
	j, err := token.Parse(value)
	if err != nil {
		return nil, fmt.Errorf("--auth-token %q: %w", value, err)
	}
	return j, nil
}

// signedTokens reports whether tokens are signed.
func (d *Daemon) signedTokens() bool {
	jwt, err := d.cfg.jwt()
	return jwt != nil && err == nil
}

// longestPassword is what bcrypt looks at, in bytes.
const longestPassword = 72

func (c Config) validateAuth() error {
	if c.AuthMinPasswordLength > longestPassword {
		return fmt.Errorf("--auth-min-password-length=%d leaves no password; passwords have at most %d bytes", c.AuthMinPasswordLength, longestPassword)
	}
	_, err := c.jwt()
	return err
}

// tokenTTL is how long random tokens last without being used; 0 stands for etcd's
// default.
func (c Config) tokenTTL() time.Duration { return time.Duration(c.AuthTokenTTL) * time.Second }

// passwords hashes with BcryptCost, or as etcd does, where that is none, with the
// default, which is told.
func (d *Daemon) passwords() *token.Passwords {
	cost := int(d.cfg.BcryptCost)
	if cost < token.MinCost || cost > token.MaxCost {
		d.log.Warn().Int("given", cost).Int("used", token.DefaultCost).Msgf("--bcrypt-cost is not from %d to %d; using the default", token.MinCost, token.MaxCost)
		cost = token.DefaultCost
	}
	return token.NewPasswords(cost)
}
