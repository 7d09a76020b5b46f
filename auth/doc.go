// Package auth is who may do what: users, roles and permissions on ranges of
// keys, in etcd's form, and the one function that decides about requests.
//
// A Store is part of the replicated state: package fsm applies agreed changes to
// it, and each publication has an immutable View. Authorize decides on a View,
// so that a request is authorized on the very state it is answered from. What
// has no rule is denied. Of each user the merged ranges are kept ready, and made
// anew when a change touches that user.
//
// On disk are etcd's buckets auth, authUsers and authRoles with etcd's messages,
// in which a few fields of our own say when rights changed; etcd skips them. The
// hashes of tokens are in a bucket of our own.
//
// The package must not know passwords or tokens, only their hashes, nor keys,
// leases, the network or time: the time is in the commands. It owns no goroutine.
package auth
