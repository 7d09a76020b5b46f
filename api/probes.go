package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// check is one thing a probe looks at.
type check struct {
	name string
	run  func(context.Context) error
}

// serveLivez tells whether restarting this member would help.
func (h *handlers) serveLivez(w http.ResponseWriter, r *http.Request) {
	h.probe(w, r, "livez", []check{{"serializable_read", h.serializableRead}})
}

// serveReadyz tells whether clients should be sent here.
func (h *handlers) serveReadyz(w http.ResponseWriter, r *http.Request) {
	h.probe(w, r, "readyz", []check{
		{"data_corruption", h.noCorruption},
		{"serializable_read", h.serializableRead},
		{"linearizable_read", h.linearizableRead},
		{"non_learner", h.nonLearner},
	})
}

// diskMoves fails while a write to the log takes longer than an election
// timeout. Such a member has stopped leading, and ends when it lasts.
func (h *handlers) diskMoves() error {
	if stuck := h.opts.Backend.Stuck(); stuck > h.opts.ElectionTimeout {
		return fmt.Errorf("a write to the log has been under way for %v", stuck.Round(100*time.Millisecond))
	}
	return nil
}

// serializableRead asks whether this member works at all. What is in memory can
// be read while the disk hangs, so that it asks for both; a check of its own
// would be one that etcd has not.
func (h *handlers) serializableRead(ctx context.Context) error {
	if err := h.diskMoves(); err != nil {
		return err
	}
	return h.read(ctx, true)
}

func (h *handlers) linearizableRead(ctx context.Context) error { return h.read(ctx, false) }

// noCorruption does not fail here because another member is damaged.
func (h *handlers) noCorruption(context.Context) error {
	if h.opts.Backend.Corrupt() {
		return errors.New("alarm activated: CORRUPT")
	}
	return nil
}

func (h *handlers) nonLearner(ctx context.Context) error {
	st, err := h.opts.Backend.Status(ctx)
	if err == nil && st.GetIsLearner() {
		err = errors.New("not supported for learner")
	}
	return err
}

// probe answers /<kind> with all checks but the excluded, and /<kind>/<name>
// with one. Every check that failed is listed with its reason, every one that
// passed if one failed or `verbose` is given.
func (h *handlers) probe(w http.ResponseWriter, r *http.Request, kind string, checks []check) {
	if !onlyGET(w, r) {
		return
	}
	checks, known := h.chosen(r, kind, checks)
	if !known {
		http.NotFound(w, r)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), h.opts.RequestTimeout)
	defer cancel()
	var report strings.Builder
	failed := false
	for _, c := range checks {
		err := c.run(ctx)
		h.health.record(kind, c.name, err)
		if err == nil {
			fmt.Fprintf(&report, "[+]%s ok\n", c.name)
			continue
		}
		failed = true
		fmt.Fprintf(&report, "[-]%s failed: %s\n", c.name, errorText(err))
	}
	if failed {
		h.opts.Log.Error().Str("path", "/"+kind).Str("output", report.String()).Msg("health check failed")
		http.Error(w, strings.TrimSuffix(report.String(), "\n"), http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if _, verbose := r.URL.Query()["verbose"]; verbose {
		fmt.Fprint(w, report.String())
	}
	fmt.Fprint(w, "ok\n")
}

// chosen picks the checks the request asks for; false for an unknown one.
func (h *handlers) chosen(r *http.Request, kind string, checks []check) ([]check, bool) {
	if name := strings.TrimPrefix(r.URL.Path, "/"+kind+"/"); name != r.URL.Path && name != "" {
		i := slices.IndexFunc(checks, func(c check) bool { return c.name == name })
		if i < 0 {
			return nil, false
		}
		return checks[i : i+1], true
	}
	exclude := r.URL.Query()["exclude"]
	for _, name := range exclude {
		if !slices.ContainsFunc(checks, func(c check) bool { return c.name == name }) {
			h.opts.Log.Warn().Str("path", "/"+kind).Str("exclude", name).Msg("no such health check to exclude")
		}
	}
	return slices.DeleteFunc(checks, func(c check) bool { return slices.Contains(exclude, c.name) }), true
}
