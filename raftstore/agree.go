package raftstore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/rs/zerolog"
	"google.golang.org/protobuf/proto"

	"github.com/conclave-kv/conclave/internal/conclavepb"
)

// ErrNoAgreement: too few of the planned members have the same plan.
var ErrNoAgreement = errors.New("the first members do not agree on who they are")

// agreeReport is how often the operator is told who is waited for.
const agreeReport = 10 * time.Second

// agreeGrace is how long a start that has a majority waits for the others to be
// reached or not, because one of them may object.
const agreeGrace = time.Second

// A start that was not recorded by enough peers is told again after agreeRetry,
// doubling to agreeRetryMost, or as soon as a connection changes.
const (
	agreeRetry     = 100 * time.Millisecond
	agreeRetryMost = 10 * time.Second
)

// Agreement is what a first start needs before anything may be voted on.
type Agreement struct {
	Mesh    *Mesh
	Claims  *Claims
	Self    uint64
	Members []uint64 // the planned members, self among them
	// Joining says that this member was added to a running cluster. A majority
	// of the others has to record its start then, which a running cluster always
	// has: no two data directories can both get one.
	Joining  bool
	Instance string // of the data directory this member starts with
	// Prepare makes the data directory. It is called once, when a majority
	// has the same plan and no reached peer objects: a start that fails
	// before leaves nothing on disk.
	Prepare func() error
	// Undo removes what Prepare made, when a peer objects after all.
	Undo func()
	// ClaimsPath is where the Claims are kept from then on.
	ClaimsPath string
	// Hopeless reports that an error of a connection says that the peer is of
	// another cluster, which no waiting mends. May be nil.
	Hopeless func(error) bool
	Log      zerolog.Logger
}

// Agree returns when a majority of the planned members, self included, has the
// same plan and has recorded durably that this member starts with its data
// directory. Sessions only open between equal cluster ids, which are hashes of
// the plan, so a session is an equal plan.
func (a Agreement) Agree(ctx context.Context) error {
	if err := a.sessions(ctx); err != nil {
		return err
	}
	if err := a.Prepare(); err != nil {
		return err
	}
	if err := a.Claims.Keep(a.ClaimsPath); err != nil {
		return err
	}
	if err := a.Claims.Claim(a.Self, a.Instance); err != nil {
		return err
	}
	a.Claims.Serve(a.Mesh)
	recorded, err := a.claim(ctx, a.quorum(), a.objection)
	var refused *RefusedError
	if errors.Is(err, ErrClaimed) || errors.As(err, &refused) && !recorded {
		a.Undo()
	}
	return err
}

// TellAll has the members that were not needed for Agree record the start too,
// until all have done so or ctx ends. It makes a wiped member known to whoever
// is left to ask.
func (a Agreement) TellAll(ctx context.Context) {
	if _, err := a.claim(ctx, len(a.Members), nil); err != nil && ctx.Err() == nil {
		a.Log.Warn().Err(err).Msg("a peer does not accept this member's data directory")
	}
}

func (a Agreement) quorum() int {
	if a.Joining {
		return 1 + (len(a.Members)-1)/2 + 1
	}
	return len(a.Members)/2 + 1
}

// sessions waits for a majority to be reachable.
func (a Agreement) sessions(ctx context.Context) error {
	report := time.NewTicker(agreeReport)
	defer report.Stop()
	var grace <-chan time.Time // runs once there is a majority
	for {
		changed := a.Mesh.Changed()
		peers := a.Mesh.Peers()
		reached, missing, err := a.look(peers)
		if err != nil {
			return err
		}
		switch {
		case reached >= a.quorum() && settled(peers):
			return nil
		case reached < a.quorum():
			grace = nil
		case grace == nil:
			grace = time.After(agreeGrace)
		}
		select {
		case <-grace:
			return nil
		case <-changed:
		case <-report.C:
			a.Log.Info().Int("reached", reached).Int("needed", a.quorum()).
				Strs("missing", missing).Msg("waiting for the other first members")
		case <-ctx.Done():
			return fmt.Errorf("%w: reached %d of %d, missing %s", ctx.Err(), reached, len(a.Members), strings.Join(missing, ", "))
		}
	}
}

// look counts who is reached. It fails when a peer objects to this member's
// start, or so many peers belong to another plan that no majority is left.
func (a Agreement) look(peers []PeerStatus) (reached int, missing []string, err error) {
	reached = 1
	var strangers []string
	for _, p := range peers {
		var refused *RefusedError
		switch {
		case p.Inbound || p.Outbound:
			reached++
			continue
		case errors.Is(p.LastError, ErrOtherCluster), a.Hopeless != nil && a.Hopeless(p.LastError):
			strangers = append(strangers, fmt.Sprintf("%s: %v", strings.Join(p.URLs, ","), p.LastError))
		case errors.As(p.LastError, &refused) && refused.ByPeer && !refused.passing():
			return 0, nil, fmt.Errorf("%s: %w", strings.Join(p.URLs, ","), refused)
		}
		missing = append(missing, strings.Join(p.URLs, ","))
	}
	if len(a.Members)-len(strangers) < a.quorum() {
		return 0, nil, fmt.Errorf("%w: %s", ErrNoAgreement, strings.Join(strangers, "; "))
	}
	return reached, missing, nil
}

// settled says whether every peer has either accepted this member or cannot be
// reached at present. One that has only dialled may still refuse what it is
// answered.
func settled(peers []PeerStatus) bool {
	for _, p := range peers {
		if !p.Outbound && (p.Inbound || p.LastError == nil) {
			return false
		}
	}
	return true
}

// objection is the refusal of a peer that takes no connection from this member,
// and so cannot be asked to record its start. A refusal that may pass by itself is
// none: that of a peer that is shutting down or has not heard of this member yet,
// or that still holds the remains of an earlier attempt (see Mesh.Duplicate).
func (a Agreement) objection() error {
	for _, p := range a.Mesh.Peers() {
		var refused *RefusedError
		if !p.Inbound && !p.Outbound && errors.As(p.LastError, &refused) &&
			refused.ByPeer && !refused.passing() {
			return fmt.Errorf("%s: %w", strings.Join(p.URLs, ","), refused)
		}
	}
	return nil
}

// claim has that many members record the start. It gives up on what objection,
// if any, says before a peer has answered that it did. An error says whether one
// may have recorded it all the same: then the directory must be kept.
func (a Agreement) claim(ctx context.Context, needed int, objection func() error) (recorded bool, err error) {
	payload, err := proto.Marshal(&conclavepb.Claim{Member: a.Self, Instance: a.Instance})
	if err != nil {
		return false, err
	}
	granted := map[uint64]bool{a.Self: true}
	for pause := agreeRetry; len(granted) < needed; pause = min(2*pause, agreeRetryMost) {
		changed := a.Mesh.Changed()
		if objection != nil && len(granted) == 1 {
			if err := objection(); err != nil {
				return recorded, err
			}
		}
		for _, id := range a.Members {
			if granted[id] {
				continue
			}
			err := a.ask(ctx, id, payload)
			var refused *CallError
			switch {
			case err == nil:
				granted[id], recorded = true, true
			case errors.As(err, &refused) && refused.Code == codeClaimed:
				return recorded, fmt.Errorf("%w: %s", ErrClaimed, refused.Text)
			case !errors.Is(err, ErrUnreachable) && !errors.Is(err, ErrBusy):
				recorded = true
			}
		}
		if len(granted) >= needed {
			break
		}
		select {
		case <-changed:
		case <-time.After(pause):
		case <-ctx.Done():
			return recorded, fmt.Errorf("%w: the start was recorded by %d of %d members", ctx.Err(), len(granted), len(a.Members))
		}
	}
	return true, nil
}

func (a Agreement) ask(ctx context.Context, id uint64, payload []byte) error {
	ctx, cancel := context.WithTimeout(ctx, leastSilent)
	defer cancel()
	_, err := a.Mesh.Call(ctx, id, KindClaim, payload)
	return err
}
