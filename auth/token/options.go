package token

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
)

// ErrOptions: a value of --auth-token cannot be used. The text says why.
var ErrOptions = errors.New("invalid value")

// Parse reads a value of --auth-token: "simple", for which it returns nil, or
// "jwt,sign-method=M,priv-key=F,pub-key=F,ttl=D,audience=A". Key files are read. Error:
// ErrOptions.
func Parse(value string) (*JWT, error) {
	kind, rest, _ := strings.Cut(value, ",")
	options := make(map[string]string)
	for part := range strings.SplitSeq(rest, ",") {
		if rest == "" {
			break
		}
		name, v, ok := strings.Cut(part, "=")
		if !ok || v == "" {
			return nil, fmt.Errorf("%w: option %q is not name=value", ErrOptions, part)
		}
		if _, twice := options[name]; twice {
			return nil, fmt.Errorf("%w: option %s is given twice", ErrOptions, name)
		}
		options[name] = v
	}
	switch kind {
	case "simple":
		if rest != "" {
			return nil, fmt.Errorf("%w: simple takes no options", ErrOptions)
		}
		return nil, nil
	case "jwt":
		return parseJWT(options)
	}
	return nil, fmt.Errorf("%w: %q is neither simple nor jwt", ErrOptions, kind)
}

// parseJWT reads the options of jwt.
func parseJWT(options map[string]string) (*JWT, error) {
	var priv, pub []byte
	method, audience, ttl := "", "", DefaultJWTTTL
	for name, v := range options {
		var err error
		switch name {
		case "sign-method":
			method = v
		case "audience":
			audience = v
		case "priv-key":
			priv, err = os.ReadFile(v)
		case "pub-key":
			pub, err = os.ReadFile(v)
		case "ttl":
			if ttl, err = time.ParseDuration(v); err == nil && ttl <= 0 {
				err = errors.New("it is not positive")
			}
		default:
			err = errors.New("there is no such option; there are sign-method, priv-key, pub-key, ttl and audience")
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %s=%s: %w", ErrOptions, name, v, err)
		}
	}
	j, err := NewJWT(method, priv, pub, ttl)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrOptions, err)
	}
	if audience != "" {
		j.restrict(audience)
	}
	return j, nil
}
