package kv

// leaseGranted reports whether keys can be attached to the lease. No request
// grants one, so that only the absence of a lease is valid.
func (b *Batch) leaseGranted(lease int64) bool { return lease == 0 }
