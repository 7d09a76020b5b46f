// Package cluster holds tests of whole clusters: processes of the built
// binary, with the programs of other projects around them. Those tests carry the
// build tag interop and are run by `make interop`; the package itself is
// empty.
//
// What clients of a cluster rely on is written for a `system`, which may be
// conclave's daemons in this process (internal/testcluster; no build tag),
// processes of conclave, or of etcd: that etcd passes shows that the test asks
// for the right things. TestKube is the contract with kube-apiserver.
//
// The tests with the tag need Debian's bind9, knot, openssl, curl and iproute2, and real etcd,
// etcdctl and etcdutl (`make interop-programs`). Tests with Root in their name
// make network namespaces or mount the file system of test/faultfs, and need
// root. Every process, namespace and file
// made is gone when the test that made it ends. CONCLAVE_BINARY names a binary
// to test instead of a new build.
//
// The package must know the product by its command line and its client port
// only. It owns no goroutine: those of its tests end with the test.
package cluster
