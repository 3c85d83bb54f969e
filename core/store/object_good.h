/* object_good.h: which rows of `object` are known to be of good bytes; SQL for the files of
 * this room. What is encoded is no better than its anchor. */
#ifndef PIO_STORE_OBJECT_GOOD_H
#define PIO_STORE_OBJECT_GOOD_H

/* Values of object.verified: how the bytes were found to be good. Others say what is wrong. */
#define PIO_OBJECT_VERIFIED "('write', 'quick', 'reread')"

/* Of a row of `object o`: is it decoded with one that is known to be bad, or is no more? */
#define PIO_OBJECT_ANCHOR_BAD \
	"(o.anchor IS NOT NULL AND NOT EXISTS (SELECT 1 FROM object oa WHERE oa.sha256 = o.anchor AND" \
	" coalesce(oa.verified, 'write') IN " PIO_OBJECT_VERIFIED "))"

#endif
