package raftstore

// laneID is where a frame waits for the connection.
type laneID uint8

const (
	// laneUrgent goes first: votes, heartbeats, pings, small calls and answers.
	laneUrgent laneID = iota
	// laneBulk is for log entries and large calls.
	laneBulk
	// laneCommit holds one frame, the newest commit index.
	laneCommit
)

// Bounds of one lane, in bytes and frames. A lane that is empty takes a frame
// of any size.
const (
	laneBytes  = 16 << 20
	laneFrames = 4096
	// takeBytes of bulk leave before urgent frames are looked at again.
	takeBytes = 256 << 10
	// smallCall is the largest call that may go ahead of log entries.
	smallCall = 16 << 10
)

func laneFor(size int) laneID {
	if size <= smallCall {
		return laneUrgent
	}
	return laneBulk
}

type sendLane struct {
	frames []*outFrame
	bytes  int
}

func (l *sendLane) fits(size int) bool {
	return len(l.frames) == 0 || len(l.frames) < laneFrames && l.bytes+size <= laneBytes
}

// sendQueue is what waits for a connection. Its user locks.
type sendQueue struct {
	urgent, bulk sendLane
	commit       *outFrame
	waiting      chan struct{} // closed at the next take; nil: nobody waits
	batch        []*outFrame   // reused by take
}

// add queues f, or returns false if its lane is full.
func (q *sendQueue) add(id laneID, f *outFrame) bool {
	lane := &q.urgent
	switch id {
	case laneCommit:
		if q.commit != nil {
			q.commit.release()
		}
		q.commit = f
		return true
	case laneBulk:
		lane = &q.bulk
	}
	if !lane.fits(len(f.b)) {
		return false
	}
	lane.frames = append(lane.frames, f)
	lane.bytes += len(f.b)
	return true
}

// only removes the one frame that waits, if it is just one and a small one.
func (q *sendQueue) only() *outFrame {
	lane := &q.urgent
	if len(lane.frames) == 0 {
		lane = &q.bulk
	}
	if q.commit != nil || len(q.urgent.frames)+len(q.bulk.frames) != 1 || lane.bytes > smallCall {
		return nil
	}
	f := lane.frames[0]
	lane.frames[0] = nil
	lane.frames, lane.bytes = lane.frames[:0], 0
	if q.waiting != nil {
		close(q.waiting)
		q.waiting = nil
	}
	return f
}

// room is closed when frames have been taken.
func (q *sendQueue) room() <-chan struct{} {
	if q.waiting == nil {
		q.waiting = make(chan struct{})
	}
	return q.waiting
}

// take removes the frames to write next: everything urgent, the commit index,
// and some bulk. The result is valid until the next take.
func (q *sendQueue) take() []*outFrame {
	batch := append(q.batch[:0], q.urgent.frames...)
	clear(q.urgent.frames)
	q.urgent.frames, q.urgent.bytes = q.urgent.frames[:0], 0
	if q.commit != nil {
		batch = append(batch, q.commit)
		q.commit = nil
	}
	n, size := 0, 0
	for n < len(q.bulk.frames) && (n == 0 || size+len(q.bulk.frames[n].b) <= takeBytes) {
		size += len(q.bulk.frames[n].b)
		n++
	}
	batch = append(batch, q.bulk.frames[:n]...)
	left := copy(q.bulk.frames, q.bulk.frames[n:])
	clear(q.bulk.frames[left:])
	q.bulk.frames, q.bulk.bytes = q.bulk.frames[:left], q.bulk.bytes-size
	if q.waiting != nil && len(batch) > 0 {
		close(q.waiting)
		q.waiting = nil
	}
	q.batch = batch
	return batch
}
