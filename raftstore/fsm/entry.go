package fsm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"google.golang.org/protobuf/proto"
)

// Kind says what a request in a log entry asks for. The numbers are on disk.
type Kind byte

// The kinds of requests of log format 1.
const (
	KindPut            Kind = 1
	KindDeleteRange    Kind = 2
	KindTxn            Kind = 3
	KindCompact        Kind = 4
	KindTermOpen       Kind = 5
	KindAttributes     Kind = 6
	KindClusterVersion Kind = 7
	KindLedger         Kind = 8
	KindAlarm          Kind = 9  // by a user
	KindOwnAlarm       Kind = 10 // by a member that watches itself
	KindDowngrade      Kind = 11
	KindLeaseGrant     Kind = 12
	KindLeaseRevoke    Kind = 13
	// By a leader: how late it is and who renewed, and which leases ended. Both
	// say for which term, because a batch may be proposed again in a later one.
	KindLeaseClock  Kind = 14
	KindLeaseExpire Kind = 15
	// KindFeatureLevel raises the level of the kinds that may be used; see LevelOf.
	KindFeatureLevel Kind = 16
	// KindAuditAnchor is by a member about its audit log, from level 2 on.
	KindAuditAnchor Kind = 17
	// KindReserved is above every level, and never in a log.
	KindReserved Kind = 255

	KindAuthEnable           Kind = 32
	KindAuthDisable          Kind = 33
	KindUserAdd              Kind = 34
	KindUserDelete           Kind = 35
	KindUserChangePassword   Kind = 36
	KindUserGrantRole        Kind = 37
	KindUserRevokeRole       Kind = 38
	KindRoleAdd              Kind = 39
	KindRoleDelete           Kind = 40
	KindRoleGrantPermission  Kind = 41
	KindRoleRevokePermission Kind = 42
	// By members: who has proven who it is, and what it goes on to use.
	KindTokenIssue Kind = 43
	KindTokenRenew Kind = 44
)

// format is the version of the log entries written; an entry of another one
// stops the process that reads it.
const format = 1

// ErrMalformed: a log entry is not of a form this program writes.
var ErrMalformed = errors.New("fsm: malformed log entry")

// Origin says who asks: an auth.Identity, with no name where nobody was proven.
type Origin struct {
	User         string
	AuthRevision uint64
}

// ByMember is the origin of what a member asks for itself; it may do everything.
var ByMember = Origin{AuthRevision: math.MaxUint64}

// AppendHeader begins an entry: it is meant for one term, and an entry that
// ended up in another one is applied by nobody. The batch id is unique across
// members and restarts; batch and position name a request.
func AppendHeader(dst []byte, term, batch uint64) []byte {
	dst = append(dst, format)
	dst = binary.AppendUvarint(dst, term)
	return binary.BigEndian.AppendUint64(dst, batch)
}

// AppendRequest adds one request to an entry.
func AppendRequest(dst []byte, kind Kind, origin Origin, msg proto.Message) ([]byte, error) {
	options := proto.MarshalOptions{UseCachedSize: true}
	size := options.Size(msg)
	dst = appendRequestHead(dst, kind, origin, size)
	return options.MarshalAppend(dst, msg)
}

// AppendRaw adds one request whose body is encoded already.
func AppendRaw(dst []byte, kind Kind, origin Origin, body []byte) []byte {
	return append(appendRequestHead(dst, kind, origin, len(body)), body...)
}

func appendRequestHead(dst []byte, kind Kind, origin Origin, size int) []byte {
	dst = append(dst, byte(kind))
	dst = binary.AppendUvarint(dst, uint64(len(origin.User)))
	dst = append(dst, origin.User...)
	dst = binary.AppendUvarint(dst, origin.AuthRevision)
	return binary.AppendUvarint(dst, uint64(size))
}

// entry reads the parts of an entry in order.
type entry struct {
	term  uint64
	batch uint64
	rest  []byte
}

// request is one request of an entry.
type request struct {
	kind         Kind
	user         []byte
	authRevision uint64
	body         []byte
}

func decodeEntry(data []byte) (entry, error) {
	if len(data) == 0 || data[0] != format {
		return entry{}, fmt.Errorf("%w: unknown format", ErrMalformed)
	}
	term, n := binary.Uvarint(data[1:])
	if n <= 0 || len(data) < 1+n+8 {
		return entry{}, fmt.Errorf("%w: header is cut", ErrMalformed)
	}
	data = data[1+n:]
	return entry{term: term, batch: binary.BigEndian.Uint64(data), rest: data[8:]}, nil
}

// next returns the next request, or ok false at the end.
func (e *entry) next() (req request, ok bool, err error) {
	if len(e.rest) == 0 {
		return request{}, false, nil
	}
	req.kind = Kind(e.rest[0])
	e.rest = e.rest[1:]
	if req.user, err = e.chunk(); err != nil {
		return request{}, false, err
	}
	if req.authRevision, err = e.uvarint(); err != nil {
		return request{}, false, err
	}
	req.body, err = e.chunk()
	return req, err == nil, err
}

func (e *entry) uvarint() (uint64, error) {
	v, n := binary.Uvarint(e.rest)
	if n <= 0 {
		return 0, fmt.Errorf("%w: number is cut", ErrMalformed)
	}
	e.rest = e.rest[n:]
	return v, nil
}

func (e *entry) chunk() ([]byte, error) {
	size, err := e.uvarint()
	if err != nil {
		return nil, err
	}
	if size > uint64(len(e.rest)) {
		return nil, fmt.Errorf("%w: request is cut", ErrMalformed)
	}
	out := e.rest[:size:size]
	e.rest = e.rest[size:]
	return out, nil
}
