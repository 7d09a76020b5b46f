package audit

import (
	"encoding/base64"
	"encoding/json"
	"strconv"
	"time"
	"unicode/utf8"
)

// timeLayout is RFC 3339 in UTC with microseconds.
const timeLayout = "2006-01-02T15:04:05.000000Z"

// appendRecord encodes a record without what chains it: the braces are open.
func appendRecord(b []byte, r *Record) []byte {
	if r.User != "" {
		b = appendText(b, "user", r.User)
	}
	b = appendText(b, "proof", string(r.Proof))
	if r.AuthOff {
		b = append(b, `,"auth":"off"`...)
	}
	b = appendCertificate(b, r)
	if r.Remote != nil {
		b = appendText(b, "remote", brief(r.Remote.String()))
	}
	if r.JSON {
		b = append(b, `,"via":"json"`...)
	}
	b = appendText(b, "rpc", r.Method)
	b = appendRange(b, r.Key, r.End)
	b = appendOps(b, r)
	for _, f := range r.Facts {
		b = appendFact(b, f)
	}
	if r.Revision != 0 {
		b = appendInt(b, "revision", r.Revision)
	}
	b = appendText(b, "decision", string(r.Decision))
	b = appendText(b, "code", r.Code)
	if r.Error != "" {
		b = appendText(b, "error", r.Error)
	}
	b = append(b, `,"latency_ms":`...)
	return strconv.AppendFloat(b, float64(r.Latency.Microseconds())/1000, 'f', -1, 64)
}

func appendCertificate(b []byte, r *Record) []byte {
	c := r.Certificate
	if c == nil {
		return b
	}
	b = appendText(b, "certificate_cn", brief(c.Subject.CommonName))
	if len(c.URIs) > 0 {
		b = appendText(b, "certificate_uri", brief(c.URIs[0].String()))
	}
	if c.SerialNumber != nil {
		b = appendText(b, "certificate_serial", c.SerialNumber.Text(16))
	}
	return b
}

func appendOps(b []byte, r *Record) []byte {
	if len(r.Ops) > 0 {
		b = append(b, `,"ops":[`...)
		for i := range r.Ops {
			o := &r.Ops[i]
			if i > 0 {
				b = append(b, ',')
			}
			b = append(b, `{"op":`...)
			b = appendString(b, o.Kind)
			b = appendText(b, "in", o.In)
			b = appendRange(b, o.Key, o.End)
			b = append(b, '}')
		}
		b = append(b, ']')
	}
	if r.Left > 0 {
		b = appendInt(b, "more_ops", int64(r.Left))
	}
	return b
}

// appendRange writes keys as etcd's JSON has them, in base64.
func appendRange(b, key, end []byte) []byte {
	if len(key) > 0 {
		b = appendBytes(b, "key", key)
	}
	if len(end) > 0 {
		b = appendBytes(b, "range_end", end)
	}
	return b
}

func appendFact(b []byte, f Fact) []byte {
	switch v := f.Value.(type) {
	case string:
		return appendText(b, f.Name, v)
	case int64:
		return appendInt(b, f.Name, v)
	case int:
		return appendInt(b, f.Name, int64(v))
	case bool:
		return strconv.AppendBool(appendName(b, f.Name), v)
	case []string:
		b = append(appendName(b, f.Name), '[')
		for i, s := range v {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendString(b, s)
		}
		return append(b, ']')
	}
	return b
}

func appendName(b []byte, name string) []byte {
	b = append(b, ',', '"')
	b = append(b, name...)
	return append(b, '"', ':')
}

func appendText(b []byte, name, value string) []byte {
	return appendString(appendName(b, name), value)
}

func appendInt(b []byte, name string, value int64) []byte {
	return strconv.AppendInt(appendName(b, name), value, 10)
}

func appendBytes(b []byte, name string, value []byte) []byte {
	b = append(appendName(b, name), '"')
	b = base64.StdEncoding.AppendEncode(b, value)
	return append(b, '"')
}

func appendTime(b []byte, name string, t time.Time) []byte {
	b = append(appendName(b, name), '"')
	b = t.UTC().AppendFormat(b, timeLayout)
	return append(b, '"')
}

// appendString writes a JSON string.
func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			quoted, err := json.Marshal(s)
			if err != nil { // strings have no way to fail
				return append(b, `""`...)
			}
			return append(b, quoted...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}
