/* checkpoint_needed.h: what keeps a checkpoint, whatever a rule says; SQL about a row of
 * `checkpoint c`, for the files of this room. */
#ifndef PIO_STORE_CHECKPOINT_NEEDED_H
#define PIO_STORE_CHECKPOINT_NEEDED_H

/* A run is open, and starts from it; or an attempt is, and resumed from it, and may
 * still be reading. */
#define PIO_CHECKPOINT_NEEDED \
	"EXISTS (SELECT 1 FROM run r WHERE r.from_checkpoint = c.manifest_sha256 AND (r.status IN" \
	" ('planned', 'queued', 'running') OR r.status = 'cancelled' AND r.reason = 'interrupted'))" \
	" OR EXISTS (SELECT 1 FROM attempt a WHERE a.state != 'ended' AND" \
	" a.resume_checkpoint = c.manifest_sha256 AND NOT EXISTS (SELECT 1 FROM checkpoint own WHERE" \
	" own.attempt_id = a.id AND own.state = 'sealed'))"

/* An object that no other sealed checkpoint has is an anchor (object_code.h) of one that
 * another checkpoint has. */
#define PIO_CHECKPOINT_ANCHOR \
	"EXISTS (SELECT 1 FROM checkpoint_file af JOIN object ad ON ad.anchor = af.sha256 WHERE" \
	" af.checkpoint_id = c.id AND EXISTS (SELECT 1 FROM checkpoint_file dg WHERE dg.sha256 = ad.sha256 AND" \
	" dg.checkpoint_id != c.id) AND NOT EXISTS (SELECT 1 FROM checkpoint_file og JOIN checkpoint oc ON" \
	" oc.id = og.checkpoint_id WHERE og.sha256 = af.sha256 AND oc.id != c.id AND oc.state = 'sealed'))"

#endif
