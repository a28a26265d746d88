'use server'

export async function say(before, form) {
  return `said ${form.get('word')}`
}
